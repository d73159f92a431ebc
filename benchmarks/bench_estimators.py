"""Which estimator of the critic's gradient to use: bias, noise, time, and the error that is left after a given time.

One trained critic per situation (photons per emission, early or late in a reconstruction; see ``_cases``).  All estimators run
on the same simulated frames, in blocks: differences between them cancel the frames' common noise, and the scatter of the
blocks is the standard error of everything that is stated.

The exact gradient is taken from ``corrected`` with its remainder on *every* frame.  That is ``coupled`` term for term, less the
noise of its own linear prediction, so that it has the same expectation; the distance to ``coupled`` is reported beside it.
The parts: ``linear`` is the shift of the mean, ``photon - linear`` the detection noise, exact ``- photon`` the flicker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.critics import scores as critic_scores

from ._cases import Case, make_case, trained_critic
from ._harness import Alternative, Options, Report, main, sampled

#: Seconds after which the estimators' errors are compared.
TIMES = (0.1, 1.0)
#: Share of the frames on which "corrected" evaluates its remainder by default.
DEFAULT_SHARE = 1 / 32


@dataclass(frozen=True)
class Blocks:
    """Means over blocks of frames, (blocks, pixels), of one estimator or of a difference between two.

    All norms are over the fine pixels; ``frames`` is the number of frames in a block.
    """

    values: np.ndarray
    frames: int

    def __sub__(self, other: Blocks) -> Blocks:
        return Blocks(self.values - other.values, self.frames)

    @property
    def variance(self) -> float:
        """Variance of one frame's contribution, summed over the pixels."""
        return float(self.values.var(axis=0, ddof=1).sum()) * self.frames

    @property
    def error(self) -> float:
        """Standard error of the mean over all blocks, as a norm."""
        return math.sqrt(self.variance / (self.frames * len(self.values)))

    @property
    def norm(self) -> float:
        """Norm of the expectation: the noise's share of the squared norm is taken off."""
        mean = self.values.mean(axis=0)
        return math.sqrt(max(0.0, float(mean @ mean) - self.error**2))

    def cosine(self, direction: np.ndarray) -> float:
        """Cosine of the mean with a direction; noise draws it towards 0."""
        mean = self.values.mean(axis=0)
        length = float(np.linalg.norm(mean) * np.linalg.norm(direction))
        return float(mean @ direction) / length if length else 0.0

    def covariance(self, other: Blocks) -> float:
        """Covariance of one frame's contributions, summed over the pixels."""
        mine, others = (v - v.mean(axis=0) for v in (self.values, other.values))
        return float((mine * others).sum()) / (len(mine) - 1) * self.frames


@dataclass(frozen=True)
class Estimator:
    """What is known of one estimator: norm of its bias, variance and seconds of one frame."""

    name: str
    bias: float
    variance: float
    seconds: float

    def error(self, seconds: float) -> float:
        """Root mean square error, as a norm, on as many frames as ``seconds`` allow."""
        return math.sqrt(self.bias**2 + self.variance * self.seconds / seconds)


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("estimators", options)
    parts: list[list[Any]] = []
    estimators: list[list[Any]] = []
    size = options.pick(16, 8)
    for kappa in options.pick((1.0, 20.0), (20.0,)):
        for phase in ("early", "late"):
            case = make_case(size, kappa, phase, options.backend)
            critic = trained_critic(case, options.pick(250, 2), options.seed, channels=options.pick(32, 4))
            _situation(report, f"kappa {kappa:g}, {phase}", case, critic, parts, estimators)
    report.table(
        "What the gradient is made of (norms over the fine pixels, ± standard error of the norm's vector)",
        [
            "",
            "mean",
            "detection noise",
            "flicker",
            "whole",
            "coupled - whole",
            "W on fresh frames",
            "cosine of the mean part with x_true - x",
            "cosine of the flicker",
        ],
        parts,
        f"{size}x{size} camera pixels. W: mean score of recorded less simulated frames, none of which the critic has seen.",
    )
    report.table(
        "The estimators of the gradient with respect to x: bias, noise, time, and error at equal time, % of the whole's norm",
        [
            "",
            "method",
            "bias",
            "standard deviation of one frame",
            "ms per frame",
            *(f"error after {t:g} s" for t in TIMES),
            *(f"best after {t:g} s" for t in TIMES),
        ],
        estimators,
        "Error: square root of bias² + variance · (time per frame) / (time given). Times include drawing the frames. "
        "direct: its standard deviation is that of two independent scores, its time that of drawing and scoring one frame for "
        "each fine pixel.",
    )
    return report


def _situation(
    report: Report, label: str, case: Case, critic: fg.Critic, parts: list[list[Any]], estimators: list[list[Any]]
) -> None:
    """Add one trained critic to both tables."""
    options = report.options
    frames, blocks = options.pick(16, 2), options.pick(16, 3)

    def gradient(method: str, count: int, first: int = 0, **more: Any) -> np.ndarray:
        made = fg.critic_gradient(critic, case.model, case.x, case.b, count, options.seed, method, first_frame=first, **more)
        return case.model.backend.to_host(made[0]).ravel()

    def in_blocks(method: str, **more: Any) -> Blocks:
        return Blocks(np.stack([gradient(method, frames, k * frames, **more) for k in range(blocks)]), frames)

    linear, photon, coupled = (in_blocks(method) for method in ("linear", "photon", "coupled"))
    whole = in_blocks("corrected", corrected_frames=frames)
    remainder = whole - linear
    norm = max(whole.norm, whole.error)  # where nothing but noise is left, the noise is the yardstick

    towards = case.model.backend.to_host(case.true_x - case.x).ravel()
    w, w_error = _wasserstein(case, critic, options)
    parts.append(
        [
            label,
            *(_with_error(part.norm, part.error) for part in (linear, photon - linear, whole - photon, whole)),
            _with_error((coupled - whole).norm, (coupled - whole).error),
            _with_error(w, w_error),
            *(part.cosine(towards) for part in (linear, whole - photon)),
        ]
    )

    many, fine = options.pick(64, 4), whole.values.shape[1]

    def scored() -> None:
        critic_scores.critic_values(critic, case.simulated(many, options.seed))

    times = report.measure(
        "Time of each estimator, per frame, sampling included",
        label,
        [
            Alternative("linear", lambda: gradient("linear", many), many),
            Alternative("photon", lambda: gradient("photon", many), many),
            Alternative("coupled", lambda: gradient("coupled", frames), frames),
            Alternative("corrected", lambda: gradient("corrected", many), many),
            Alternative("corrected, every frame", lambda: gradient("corrected", frames, corrected_frames=frames), frames),
            sampled("direct", scored, many, fine + 1, 1),
        ],
        per="frame",
        seconds=options.pick(4, 0),
        reference="coupled",
        setting={"size": case.model.psi.shape[0], "fine_pixels": fine},
    )
    scores = critic_scores.critic_values(critic, case.simulated(options.pick(384, 8), options.seed))
    shared = 2 * remainder.covariance(linear)
    extra_time = max(times["corrected, every frame"] - times["linear"], 1e-9)
    best_share = _best_share(linear.variance + shared, remainder.variance, times["linear"], extra_time)

    def corrected(name: str, share: float, seconds: float) -> Estimator:
        return Estimator(name, 0.0, linear.variance + shared + remainder.variance / share, seconds)

    listed = [
        Estimator("linear", (whole - linear).norm, linear.variance, times["linear"]),
        Estimator("photon", (whole - photon).norm, photon.variance, times["photon"]),
        Estimator("coupled", 0.0, coupled.variance, times["coupled"]),
        corrected("corrected, remainder on 1/32 of the frames", DEFAULT_SHARE, times["corrected"]),
        corrected(
            f"corrected, on {best_share:.2g} of the frames (its best share)",
            best_share,
            times["linear"] + best_share * extra_time,
        ),
        Estimator("direct", 0.0, 2.0 * fine * float(scores.var(ddof=1)), times["direct"]),
    ]
    best = [min(listed, key=lambda e, t=t: e.error(t)) for t in TIMES]  # type: ignore[misc]
    for e in listed:
        errors = [100 * e.error(t) / norm for t in TIMES]
        marks = ["best" if e is winner else "" for winner in best]
        estimators.append(
            [label, e.name, 100 * e.bias / norm, 100 * math.sqrt(e.variance) / norm, 1e3 * e.seconds, *errors, *marks]
        )


def _best_share(shared: float, remainder: float, seconds: float, extra: float) -> float:
    """The share p that minimises (shared + remainder / p) (seconds + p extra), at most 1."""
    if shared <= 0 or remainder <= 0:
        return 1.0
    return float(np.clip(math.sqrt(remainder * seconds / (shared * extra)), 1e-3, 1.0))


def _wasserstein(case: Case, critic: fg.Critic, options: Options) -> tuple[float, float]:
    """Mean score of fresh recorded less simulated frames, and its standard error."""
    count = options.pick(400, 8)
    real = critic_scores.critic_values(critic, case.recorded(count, options.seed + 1000))
    simulated = critic_scores.critic_values(critic, case.simulated(count, options.seed + 1000))
    spread = math.sqrt(float(real.var(ddof=1) + simulated.var(ddof=1)) / count)
    return float(real.mean() - simulated.mean()), spread


def _with_error(value: float, error: float) -> str:
    return f"{value:.3g} ± {error:.2g}"


if __name__ == "__main__":
    main("estimators", run)
