"""The registry of estimators of the critic's gradient: their names, what each computes and keeps, its cost.

The estimators of the library stand at the end.  Options, the command line and the table in ``docs/estimators.md`` derive from
this registry.  It loads no numerics, so that ``--help`` stays fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Gradient, GradientJob, GradientWithError

__all__ = ["Estimator", "estimator_named", "estimator_names", "estimator_table", "register_estimator", "unregister_estimator"]

#: What an estimator may keep of the exact gradient, to second order in the critic (``docs/estimators.md``).
PARTS = ("mean", "detection", "flicker")
#: Options of ``critic_gradient`` that only some estimators read, and the values that are right for one that reads none of them:
#: without a coarser lattice every fine pixel is evaluated.
OPTIONS: dict[str, tuple[object, ...]] = {
    "background_rule": ("count",),
    "corrected_frames": (None,),
    "lattice": ("auto", 1),
}


@dataclass(frozen=True)
class Estimator:
    """An estimator of the gradient of E[D(Y)] with respect to x and b.

    Attributes
    ----------
    name : str
        What ``critic_gradient(method=...)`` and ``SolverOptions(method=...)`` know it by.
    function : callable or str
        ``function(job)``, with a :class:`fluogan_core.critics.job.GradientJob`, returns ``job.gradient(means)``; or
        ``"package.module:function"``, which is imported at the first use.
    computes : str
        What it computes, in a formula or a few words.
    keeps : tuple of str
        What it keeps of the exact gradient: ``"mean"``, ``"detection"`` (shot noise), ``"flicker"``.
    cost : str
        Cost per frame, in words.
    needs_gradient : bool
        Whether it differentiates the critic.
    options : tuple of str
        Which of ``"background_rule"``, ``"corrected_frames"`` and ``"lattice"`` it reads.  Values of the others are refused.

    See Also
    --------
    fluogan_core.register_estimator : makes it known, with an example.

    Examples
    --------
    >>> from fluogan_core.critics.estimators import estimator_named
    >>> estimator_named("photon").keeps, estimator_named("photon").options
    (('mean', 'detection'), ('background_rule',))
    """

    name: str
    function: Callable[[GradientJob], Gradient | GradientWithError] | str
    computes: str
    keeps: tuple[str, ...]
    cost: str
    needs_gradient: bool = False
    options: tuple[str, ...] = ()

    def refuse_unused(self, **given: object) -> None:
        """Raise where an option is given that this estimator does not read.

        Parameters
        ----------
        **given
            Values of options by their names, of ``"background_rule"``, ``"corrected_frames"`` and ``"lattice"``.

        Raises
        ------
        ValueError
            The message names the methods that read the option.  A default, and ``lattice=1``, are right for every estimator.
        """
        for name, value in given.items():
            if name in self.options or value in OPTIONS[name]:
                continue
            users = " or ".join(repr(other.name) for other in _REGISTRY.values() if name in other.options)
            raise ValueError(
                f"{name}={value!r} changes nothing with method={self.name!r}: leave it out, or take method={users}"
            )

    def __call__(self, job: GradientJob) -> Gradient | GradientWithError:
        """Estimate the gradient that a job describes; the host waits for a card at the end, for all checks of the job."""
        from ..backend.readings import together  # loads NumPy, which names alone do not need

        function = self.function
        if isinstance(function, str):
            module, _, name = function.partition(":")
            function = getattr(importlib.import_module(module), name)
        with together(job.model.backend):
            return function(job)


_REGISTRY: dict[str, Estimator] = {}


def register_estimator(estimator: Estimator) -> Estimator:
    """Add an estimator to those that ``method=`` can name, everywhere in the library.

    Parameters
    ----------
    estimator : Estimator

    Returns
    -------
    Estimator
        The same.

    Raises
    ------
    ValueError
        If the name is taken, or a part that it keeps or an option that it reads is unknown.

    Examples
    --------
    The central difference of each pixel, with its error of third order:

    >>> import fluogan_core as fg
    >>> from fluogan_core.critics.estimators import Estimator, register_estimator, unregister_estimator
    >>> def central(job):
    ...     means, step = job.means(), job.model.gain
    ...     for numbers, y in job.sampled_frames():
    ...         forward, backward = (job.evaluator.pixel_differences(y, sign * step) for sign in (1, -1))
    ...         job.add_camera(means, 0.5 * (forward - backward))
    ...     return job.gradient(means)
    >>> entry = Estimator("central", central, "Psi^T E[D(y + a e_j) - D(y - a e_j)] / 2", ("mean",), "2 M evaluations")
    >>> register_estimator(entry).name
    'central'
    >>> fg.SolverOptions(method="central").method
    'central'
    >>> unregister_estimator("central")
    """
    if estimator.name in _REGISTRY or estimator.name in ("moments", "likelihood", "auto", "none"):
        raise ValueError(f"an estimator called {estimator.name!r} is registered already: choose another name")
    unknown = set(estimator.keeps) - set(PARTS)
    if unknown:
        raise ValueError(f"keeps must name parts out of {', '.join(map(repr, PARTS))}, got {', '.join(map(repr, unknown))}")
    unknown = set(estimator.options) - set(OPTIONS)
    if unknown:
        raise ValueError(
            f"options must name options out of {', '.join(map(repr, OPTIONS))}, got {', '.join(map(repr, sorted(unknown)))}"
        )
    _REGISTRY[estimator.name] = estimator
    return estimator


def unregister_estimator(name: str) -> None:
    """Remove an estimator, so that its name can be registered again: in a notebook whose cell is run twice.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    del _REGISTRY[estimator_named(name).name]


def estimator_names() -> tuple[str, ...]:
    """Return the names of all registered estimators, in the order of their registration."""
    return tuple(_REGISTRY)


def estimator_named(name: str) -> Estimator:
    """Return the estimator of this name.

    Raises
    ------
    ValueError
        If there is none; the message names all.
    """
    if name not in _REGISTRY:
        raise ValueError(f"method must be one of {', '.join(map(repr, _REGISTRY))}, got {name!r}")
    return _REGISTRY[name]


def estimator_table() -> str:
    """Return all estimators as a Markdown table, for the documentation."""
    rows = ["| `method` | what it computes | mean | detection | flicker | cost per frame |", "|---|---|---|---|---|---|"]
    for estimator in _REGISTRY.values():
        kept = " | ".join("yes" if part in estimator.keeps else "no" for part in PARTS)
        rows.append(f'| `"{estimator.name}"` | {estimator.computes} | {kept} | {estimator.cost} |')
    return "\n".join(rows)


_HERE = f"{__package__}."
register_estimator(
    Estimator(
        "corrected",
        _HERE + "coupled:corrected",
        "`linear` on every frame, plus (coupled − its own linear prediction) on a few frames",
        PARTS,
        "one backward pass, and a few coupled frames",
        needs_gradient=True,
        options=("background_rule", "corrected_frames", "lattice"),
    )
)
register_estimator(
    Estimator(
        "coupled",
        _HERE + "coupled:coupled",
        "D(y + α P(C_i)) − D(y) for every i, the same y",
        PARTS,
        "N local evaluations",
        options=("background_rule", "lattice"),
    )
)
register_estimator(
    Estimator(
        "photon",
        _HERE + "coupled:photon",
        "Ψᵀ E[D(y + α e_j) − D(y)]",
        ("mean", "detection"),
        "M local evaluations",
        options=("background_rule",),
    )
)
register_estimator(
    Estimator("linear", _HERE + "coupled:linear", "α Ψᵀ E[∇D]", ("mean",), "one backward pass", needs_gradient=True)
)
register_estimator(
    Estimator(
        "direct",
        _HERE + "direct:direct",
        "independent frames for each b + C_i, eq. (12) literally",
        PARTS,
        "N critic runs, and very noisy",
        options=("background_rule",),
    )
)
