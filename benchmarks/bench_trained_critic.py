"""How much of what mean and covariance leave in the frames does a trained critic find, where few bright molecules are on?

A critic tells frames of one image from frames of another.  The best one is D = log p1/p0, the logarithm of the ratio of their
densities.  What a critic is worth is the log density that it adds to held-out frames of the one image, E_1[D] - log E_0[exp D],
which is never more than E_1[log p1/p0].  The two images are a pair of lines 120 nm apart and its bar.  All critics are compared
on the same held-out frames: the quadratic critic (the ratio of Gaussian densities of mean and covariance), the full likelihood
(chains of emissions on the way from one image to the other), and slim networks that are added to the quadratic critic.

A network learns from frames that are simulated for every step and never come again:

- *classifier*: told of every frame whose it is, as the critic of a GAN is (logistic loss, on the critic of mean and covariance
  plus network);
- *classifier, 500 frames*: the same, with no more frames of the pair than a recording has, and early stop on held-out frames;
- *emissions*: told the emissions of every simulated frame.  For x half-way between the two images, the mean given the frame of
  sum_i z_i (x1_i - x0_i) / x_i is the derivative of the frame's log density on the way from one to the other (the joint score,
  Brehmer, Louppe, Pavez and Cranmer 2020).  The network estimates r_i = E[z_i | y] / x_i on the fine grid, by the Poisson loss
  x_i r_i - z_i log r_i: one network then serves all images near x;
- *emissions, from matched filters*: the same; it begins at the posterior of a frame that holds one emission near each place.

Every critic is a sum of the best linear statistic, the quadratic critic and the network (the critic of mean and covariance, of
the first two), with weights by least squares on what the emissions of simulated frames say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fluogan_core.physics.emissions import Brightness
from fluogan_core.solvers.unseen_gain import Pair, unseen_gain

from ._emission_networks import CHANNELS, Field, Network, field_of, trained
from ._harness import Options, Report, main
from ._likelihood_scenes import BACKGROUND, CAMERA, SIZE, kept

REGIMES = ((0.3, 1000), (1, 1000), (3, 1000))
KINDS = ("classifier", "classifier, 500 frames", "emissions", "emissions, from matched filters")
#: How it is trained, and how many times as long.
TRIES = {kind: (kind, 1) for kind in KINDS} | {"the same, four times as long": (KINDS[-1], 4)}
BASE = "mean and covariance"
BATCH = 32


def sampled(field: Field, photons: np.ndarray, seed: int) -> list[list[float]]:
    """Log ratio p_pair / p_bar of the density of frames (2, T, 256), nats, by chains of emissions."""
    b, frames = np.full((SIZE, SIZE), BACKGROUND), photons.shape[1]
    ends = (Pair(field.x[kind].reshape(field.model.psi.fine_shape), b) for kind in ("bar", "pair"))
    given = (field.model, *ends, Brightness(), np.full(frames, 20 + 6 * int(np.ceil(field.x["bar"].sum()))))
    counts = (CAMERA.gain * photons).reshape(2, frames, SIZE, SIZE)
    return [unseen_gain(y, *given, seed=seed, step=0).of_frames.tolist() for y in counts]


class Moments:
    """Critics of mean and covariance: the best linear statistic, and the log ratio of Gaussian densities, of pair and bar."""

    def __init__(self, field: Field) -> None:
        self.mean, self.inverse, columns = {}, {}, field.columns.astype(np.float64)
        covariance = {}
        for kind in ("bar", "pair"):
            x = field.x[kind]
            self.mean[kind] = x @ columns + BACKGROUND
            noise = self.mean[kind] + (CAMERA.noise_std / CAMERA.gain) ** 2
            covariance[kind] = np.diag(noise) + (columns.T * x) @ columns
            self.inverse[kind] = np.linalg.inv(covariance[kind])
        apart = self.mean["pair"] - self.mean["bar"]
        self.linear = np.linalg.solve(0.5 * (covariance["pair"] + covariance["bar"]), apart)

    def __call__(self, photons: np.ndarray) -> np.ndarray:
        """Both of frames (..., T, 256): (2, ..., T)."""
        apart = {kind: photons - mean for kind, mean in self.mean.items()}
        squared = {kind: ((y @ self.inverse[kind]) * y).sum(axis=-1) for kind, y in apart.items()}
        return np.stack([photons @ self.linear, 0.5 * (squared["bar"] - squared["pair"])])


# -- worth of a critic -----------------------------------------------------------------------------------------------------


def worth(ratio: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Log density that the best multiple of a critic adds per frame, for values (K, 2 images, T); of the full likelihood last.

    To second order in D, which is small, it is cov(L, D)^2 / (2 var D).  L is the exact log ratio; no critic shares the noise
    of the sampled one.  For the variance of L itself, the covariance of two runs is taken.
    """

    def shared(one: np.ndarray, other: np.ndarray) -> float:
        return 0.5 * sum(float(np.cov(a, b)[0, 1]) for a, b in zip(one, other))

    mean = ratio.mean(axis=0)
    of_critics = [shared(mean, value) ** 2 / (2 * shared(value, value)) for value in values]
    return np.array([*of_critics, 0.5 * shared(*ratio)])


def shares(ratio: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Part of the gap between the critic ``values[1]`` (mean and covariance) and the full likelihood that each one closes."""
    of = worth(ratio, values)
    return (of[:-1] - of[1]) / (of[-1] - of[1])


def jackknife(function: Callable[..., np.ndarray], *samples: np.ndarray, groups: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A function of frames (the last axis), and its standard errors."""
    parts = np.array_split(np.arange(samples[0].shape[-1]), groups)
    without = [function(*(np.delete(sample, part, axis=-1) for sample in samples)) for part in parts]
    return function(*samples), np.std(without, axis=0) * (groups - 1) ** 0.5


def added(values: np.ndarray) -> np.ndarray:
    """E_1[D] - log E_0[exp D] on held-out frames, nats per frame, as it stands, for values (K, 2 images, T)."""
    return values[:, 1].mean(axis=-1) - np.log(np.exp(values[:, 0]).mean(axis=-1))


class Labelled(NamedTuple):
    """Frames of bar and pair: photons, the critic of mean and covariance, and sign."""

    photons: np.ndarray
    base: np.ndarray
    sign: np.ndarray


def logistic(network: Network, of: Labelled) -> Any:
    """Loss of the critic of mean and covariance plus network that tells whose a frame is."""
    import torch

    found = torch.from_numpy(of.base) + network(of.photons)
    return torch.nn.functional.softplus(-torch.from_numpy(of.sign) * found).mean()


def learnt(name: str, field: Field, moments: Moments, steps: int, rng: np.random.Generator) -> tuple[Network, dict[str, Any]]:
    """Train one network."""
    if name.startswith("emissions"):
        network = Network(field, dense=True, filters="filters" in name)
        fresh = iter(lambda: field.drawn("between", BATCH, rng), None)
        return network, trained(network, fresh, network.poisson_loss, field.drawn("between", 1000, rng), steps)
    network, half = Network(field, dense=False, filters=False), BATCH // 2
    weights = read_out(field, moments, 100 * BATCH if steps > 100 else 10 * BATCH, rng)
    middle = float((weights @ moments(field.drawn("between", 100 * BATCH, rng).photons)).mean())
    recorded = field.drawn("pair", 500, rng).photons if "500" in name else None

    def both(frames: int, pair: np.ndarray | None = None) -> Labelled:
        pair = field.drawn("pair", frames, rng).photons if pair is None else pair[rng.integers(0, len(pair), frames)]
        photons = np.concatenate([field.drawn("bar", frames, rng).photons, pair])
        base = np.tensordot(weights, moments(photons), 1) - middle
        return Labelled(photons, base.astype(np.float32), np.repeat(np.float32([-1.0, 1.0]), frames))

    fresh = iter(lambda: both(half, recorded), None)
    return network, trained(network, fresh, lambda of: logistic(network, of), both(1000), steps)


def read_out(field: Field, values: Callable[[np.ndarray], np.ndarray], frames: int, rng: np.random.Generator) -> np.ndarray:
    """Weights of statistics (K, T) in the critic."""
    drawn = field.drawn("between", frames, rng)
    seen = values(drawn.photons)
    return np.linalg.lstsq((seen - seen.mean(axis=1, keepdims=True)).T, field.said(drawn), rcond=None)[0]


def tried(name: str, field: Field, photons: np.ndarray, steps: int, seed: int) -> dict[str, Any]:
    """One way to train, or none (``BASE``): the critic on the held-out frames (2, T, 256), and what became of it."""
    import torch

    torch.set_num_threads(1)
    rng, moments = np.random.default_rng([seed, 1 + (*KINDS, BASE).index(name)]), Moments(field)
    network, facts, started = None, {}, time.process_time()
    if name != BASE:
        network, facts = learnt(name, field, moments, steps, rng)
    seconds = time.process_time() - started

    def statistics(y: np.ndarray) -> np.ndarray:
        of_moments = moments(y)
        return of_moments if network is None else np.concatenate([of_moments, network.values(y)[None]])

    weights = read_out(field, statistics, 1000 * BATCH if steps > 100 else 10 * BATCH, rng)
    values = np.tensordot(weights, statistics(photons), 1)
    return facts | {"seconds": seconds, "weights": weights.tolist(), "values": values.tolist()}


def regime_of(number: float, photons: float, options: Options) -> dict[str, Any]:
    """Every try in one regime."""
    frames, steps, seed = options.pick(1500, 40), options.pick(1500, 6), options.seed
    field, where = field_of(number, photons), f"{number:g} of {photons:g}, {frames} frames, seed {seed}"
    rng = np.random.default_rng([seed, 0])
    seen = np.stack([field.drawn(kind, frames, rng).photons for kind in ("bar", "pair")])
    ratio = np.array(
        [kept(options.results, f"held out, {where}, run {run}", lambda run=run: sampled(field, seen, run)) for run in (0, 1)]
    )
    critics, tries = [Moments(field)(seen)[0]], {}
    for name, (kind, times) in {BASE: (BASE, 1), **TRIES}.items():
        key, given = f"{kind}, {times * steps} steps, {where}", (kind, field, seen, times * steps, seed)
        tries[name] = kept(options.results, key, lambda given=given: tried(*given))
        critics.append(np.array(tries[name].pop("values")))
    values = np.stack(critics)
    found, errors = jackknife(worth, ratio, values)
    share, share_errors = jackknife(shares, ratio, values)
    direct, direct_errors = jackknife(added, values[1:])
    exact = ratio.mean(axis=0)[1]
    return {
        "worth": found,
        "worth errors": errors,
        "share": share,
        "share errors": share_errors,
        "direct": [*direct, float(exact.mean())],
        "direct errors": [*direct_errors, float(exact.std() / len(exact) ** 0.5)],
        "tries": tries,
    }


def run(options: Options) -> Report:
    """Every try in every regime."""
    report, rows, costs = Report("trained_critic", options), [], []
    names = ("mean", BASE, *TRIES, "full likelihood")
    for number, photons in options.pick(REGIMES, REGIMES[1:2]):
        made = regime_of(number, photons, options)
        where = f"{number:g} of {photons:g}"
        for k, name in enumerate(names):
            share = (
                f"{100 * made['share'][k]:.0f} ± {100 * made['share errors'][k]:.0f}"
                if k < len(made["share"]) and k > 1
                else ""
            )
            direct = f"{1000 * made['direct'][k - 1]:.1f} ± {1000 * made['direct errors'][k - 1]:.1f}" if k else ""
            worth_of = f"{1000 * made['worth'][k]:.2f} ± {1000 * made['worth errors'][k]:.2f}"
            rows.append([where, name, worth_of, direct, share])
        for name, facts in made["tries"].items():
            if name == BASE:
                continue
            first, best, last = facts["unseen loss"][0], min(facts["unseen loss"]), facts["unseen loss"][-1]
            costs.append(
                [where, name, f"{first:.4f}", f"{best:.4f}", f"{last:.4f}", f"{facts['weights'][-1]:.2f}", facts["seconds"]]
            )
        best = max(made["share"][2:])
        report.target(f"{where}: best share of the gap, a trained critic", float(best), at_least=0.5)
    report.table(
        "Log density that a critic adds to a held-out frame, 1e-3 nats",
        ["emissions per frame, photons", "critic", "best multiple of it", "as it stands", "of the gap, %"],
        rows,
        note=f"Pair against bar, 16 x 16 pixels, {options.pick(1500, 40)} held-out frames of each. Best multiple: to second "
        "order, by the covariance with the sampled log ratio of densities. As it stands: E_pair[D] - log E_bar[exp D], with "
        "the error that so many frames leave. Gap: between mean and covariance and the full likelihood. Errors by the "
        "jackknife over 20 groups of frames.",
    )
    report.table(
        "Every try",
        [
            "emissions per frame, photons",
            "try",
            "loss on unseen frames, first",
            "best",
            "last",
            "weight of the network",
            "training, s of CPU",
        ],
        costs,
        note=f"{options.pick(1500, 6)} steps of {BATCH} frames, {CHANNELS} channels, one thread; the network of the least loss "
        "is taken.",
    )
    return report


if __name__ == "__main__":
    main("trained_critic", run)
