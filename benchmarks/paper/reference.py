r"""What second moments are worth: mean alone, mean with covariance, and how much of it the critic wins.

``python -m benchmarks.paper.reference``: small fields on which the Gaussian likelihood of the frames' mean *and* covariance can
be written down and climbed,

.. math:: \log L(x) = -\tfrac{T}{2}\left(\log\det\Sigma + \mathrm{tr}\,\Sigma^{-1} (S + r r^T)\right), \quad
          \Sigma = \mathrm{diag}(\Psi x + b) + \Psi\,\mathrm{diag}(x)\,\Psi^T, \quad r = \bar y - \Psi x - b,

with S the covariance of the frames.  Likelihoods are given the background and stopped where their error is least (by the known
truth: a bound, not a method); the library's fits estimate the background and stop by themselves.  Other attempts
are listed beside them (:mod:`._tries`).  ``--light 2`` measures only the fields of that light, ``--light 20`` the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, optimize

import fluogan_core as fg
from fluogan_core.metrics.images import nrmse
from fluogan_core.metrics.prediction import held_out_score

from .._harness import Options, Report
from .._study import study_switches
from ._field import Field, Made, make_field
from ._renew import measure
from ._training import add_training
from ._tries import TRIED, library, tries

__all__ = ["Likelihood", "climb", "error_of"]

#: Photons per fine pixel of line.
LIGHTS = (20.0, 2.0)
#: Emissions that no pixel falls below.
_LEAST = 1e-9


class Likelihood:
    """The Gaussian log likelihood per frame of mean, or of mean and covariance, and its gradient in x.

    Parameters
    ----------
    field : Field
    second_moments : bool
        False compares the mean frame alone, under the covariance that the recorded variances suggest.
    """

    def __init__(self, field: Field, *, second_moments: bool) -> None:
        psi = field.model.psi
        rows = psi.adjoint(np.eye(field.b.size).reshape(-1, *psi.shape))
        self.operator = rows.reshape(field.b.size, -1)
        self.second_moments = second_moments
        y = field.frames.reshape(len(field.frames), -1).astype(np.float64)
        self.mean, self.background = y.mean(axis=0), field.b.ravel()
        apart = y - self.mean
        self.covariance = apart.T @ apart / len(y)
        self.weights = 1.0 / np.maximum(self.mean, 1e-3 * self.mean.max())

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value and its gradient."""
        light = self.operator @ x
        residual = self.mean - light - self.background
        if not self.second_moments:
            value = -0.5 * float(self.weights @ residual**2)
            return value, self.operator.T @ (self.weights * residual)
        sigma = np.diag(light + self.background) + (self.operator * x) @ self.operator.T
        inverse = np.linalg.inv(sigma)
        scatter = self.covariance + np.outer(residual, residual)
        value = -0.5 * (float(np.linalg.slogdet(sigma)[1]) + float((inverse * scatter).sum()))
        pulled = inverse @ scatter @ inverse
        return value, self.operator.T @ (inverse @ residual) + 0.5 * self._through(pulled - inverse)

    def _through(self, matrix: np.ndarray) -> np.ndarray:
        """tr(matrix dSigma/dx_i) for every i."""
        return self.operator.T @ np.diag(matrix) + ((matrix @ self.operator) * self.operator).sum(axis=0)


def climb(likelihood: Likelihood, steps: int, error: Callable[[np.ndarray], float]) -> tuple[np.ndarray, int]:
    """Climb by projected quasi-Newton steps (L-BFGS-B); return the image of least error and the step that met it."""
    start = np.full(likelihood.operator.shape[1], float(likelihood.mean.mean()) / likelihood.operator.sum(axis=0).max() / 16)
    met = [(error(start), start)]

    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = likelihood(x)
        return -value, -slope

    optimize.minimize(
        down,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(_LEAST, None)] * start.size,
        callback=lambda x: met.append((error(x), x.copy())),
        options={"maxiter": steps, "maxfun": 10 * steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
    )
    when = int(np.argmin([e for e, _ in met]))
    return met[when][1], when


#: What the share of the gap is measured between, and of.
_FROM, _TO, _OF = "mean fit", "likelihood of mean and covariance", "full method"
_COLUMNS = [
    "photons per fine pixel",
    "seed",
    "",
    "NRMSE",
    "log density, unseen frames",
    "error of b",
    "covariance ratio",
    "s",
    "",
]


def run(options: Options, lights: Sequence[float], training: bool) -> Report:
    """Tables over light and seeds, and of how long a critic has to be trained."""
    report = Report("reference", options)
    size, frames, seeds = options.pick(16, 14), options.pick(500, 40), options.pick(range(4), range(1))
    rows, shares = [], []
    for light in lights:
        for seed in seeds:
            field = make_field(size, light, frames, seed)
            chosen = {n: m for n, m in methods(options).items() if seed < TRIED.get(n, len(seeds))}
            made = {name: _measured(field, make, light, seed, name) for name, make in chosen.items()}
            rows += [row for row, _ in made.values()]
            first, last, reached = (np.array(made[name][1]) for name in (_FROM, _TO, _OF))
            shares.append([f"{light:g}", seed, *(float(v) for v in (reached - first) / (last - first))])
    poor = []
    for light in options.pick(lights, ()):
        for seed in seeds:
            field = make_field(size, light, frames, seed, 1.0)
            poor += [_measured(field, methods(options)[name], light, seed, name)[0] for name in (_FROM, _OF)]
    report.table(
        "Second moments on small fields: pairs 120 nm apart, 20 photons per emission",
        _COLUMNS,
        rows,
        f"{size} x {size} camera pixels, {frames} frames. NRMSE after a blur of one fine pixel. Log density: mean per pixel "
        "and frame of as many unseen frames, nats (larger is better). Error of b: root mean square, photons. Covariance ratio: "
        "measured over predicted, neighbours. The likelihoods know the background and are stopped by an oracle; the library's "
        "fits know neither. Trained critics: 40 plain steps, on the first seeds.",
    )
    report.table(
        f"Share of the gap between the {_FROM} and the {_TO} that the {_OF} closes",
        ["photons per fine pixel", "seed", "of NRMSE", "of log density"],
        shares,
        "1: all of it; above 1: past the reference, which has no prior.",
    )
    if poor:
        report.table("The same with one photon per emission: fluctuations hold next to nothing", _COLUMNS, poor)
    if training:
        trained = fg.SolverOptions("corrected", **options.pick({}, {"warm_steps": 20, "channels": 2}))
        looks, batches = options.pick((50, 200, 500, 1000, 2000, 5000), (1, 2)), options.pick((32, 200), (4,))
        add_training(report, make_field(size, LIGHTS[0], frames, 0), trained, looks, batches)
    return report


def _measured(
    field: Field, make: Callable[[Field], Made], light: float, seed: int, name: str
) -> tuple[list[Any], tuple[float, float]]:
    """A row of the table; NRMSE and log density."""
    started = time.perf_counter()
    x, b, note = make(field)
    seconds = time.perf_counter() - started
    score, error = held_out_score(field.unseen, field.model, x, b), error_of(field)(x)
    wrong = float(np.sqrt(np.mean((b - field.b) ** 2)))
    density = f"{score.log_density:.5f}"  # the differences are in the last digits
    print(f"{light:g} photons, seed {seed}, {name}: {error:.3f} {density}", file=sys.stderr, flush=True)
    row = [f"{light:g}", seed, name, error, density, wrong, score.covariance_ratio, seconds, note]
    return row, (error, score.log_density)


def error_of(field: Field) -> Callable[[np.ndarray], float]:
    """NRMSE after a blur of one fine pixel."""
    truth = ndimage.gaussian_filter(field.x, 1.0)
    return lambda x: nrmse(ndimage.gaussian_filter(np.asarray(x, dtype=np.float64).reshape(truth.shape), 1.0), truth)


def methods(options: Options) -> dict[str, Callable[[Field], Made]]:
    """What is compared; each gives x, b and a note."""

    def likelihood(second: bool, steps: int) -> Callable[[Field], Made]:
        def fit(field: Field) -> Made:
            x, when = climb(Likelihood(field, second_moments=second), steps, error_of(field))
            return x.reshape(field.x.shape), field.b, f"best of {steps} steps: {when}"

        return fit

    small = options.pick({}, {"steps": 2, "warm_steps": 20, "channels": 2, "batch": 4, "gradient_frames": 4})
    return {
        "likelihood of the mean": likelihood(False, options.pick(500, 20)),
        _TO: likelihood(True, options.pick(250, 5)),
        _FROM: library(**(small | {"method": "none"})),
        _OF: library(**(small | {"method": "moments"})),
    } | tries(small)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = study_switches("benchmarks.paper.reference", "reference")
    names = {f"{light:g}": light for light in LIGHTS}
    parser.add_argument(
        "--light", choices=names, help="only fields of so many photons per fine pixel, in the place of their figures"
    )
    arguments = parser.parse_args(argv)
    only = arguments.light

    def measured(options: Options, docs: Path | None) -> Report:
        return run(options, options.pick(LIGHTS, LIGHTS[:1]) if only is None else (names[only],), only is None)

    measure(parser, arguments, "reference", only, measured)


if __name__ == "__main__":
    main()
