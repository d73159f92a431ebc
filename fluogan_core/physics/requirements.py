"""What each part of the library reads of an operator, and the check of one that is not the library's own."""

from __future__ import annotations

from typing import Protocol, cast

from ..backend.arrays import Backend
from ..backend.checks import image_shape
from ..backend.typing import Array
from .agreement import faults_of
from .psi import Psi

__all__ = ["NOMINAL", "READS", "OperatorLike", "has_table", "reads", "reads_table", "refuse_own", "require", "usable"]

_MAPS = ("shape", "fine_shape", "backend", "forward", "adjoint")
_OF_WEIGHTS = ("column_sums", "column_energies", "norm", "psf", "factor")
#: What each part of the library reads of an operator.
READS: dict[str, tuple[str, ...]] = {
    "forward model": (*_MAPS, "memory_budget", "photons_per_emitter"),
    "variance of the forward model": ("squared_forward",),
    "objective": (*_MAPS, "norm"),
    "mean fit": (*_MAPS, "memory_budget", "photons_per_emitter", *_OF_WEIGHTS, "nominal", "fingerprint"),
    "covariance fit": (*_MAPS, "squared_forward", "column_energies", "psf", "matrix"),
    "likelihood fit": ("table", "origin", "psf", "factor"),
    "calibration": (
        *_MAPS,
        "norm",
        "matrix",
        "psf",
        "factor",
        "photons_per_emitter",
        "nominal",
        "replaced",
        "scaled",
    ),
    "width of the PSF": ("table", "origin", "axis_matrices", "psf", "factor", "binning"),
    "shape of the PSF": ("table", "psf", "factor", "binning"),
    "score of unseen frames": ("matrix", "squared_forward"),
    "estimator of coupled frames": ("matrix",),
    "estimator of independent frames": ("column",),
    "adapter to another toolkit": _MAPS,
}
#: What serves where an operator of the user's own cannot.
NOMINAL = "take the operator that yours departs from (psi.nominal), or derive yours from fluogan_core.Operator"


#: What stands for the entries of an operator whose columns differ by nothing but their place.
_TABLE = ("table", "origin", "axis_matrices", "psf", "factor", "binning")


def has_table(psi: object) -> bool:
    """Return whether an operator is one table of phases for the whole field, as :class:`fluogan_core.Psi` is.

    Parameters
    ----------
    psi : Psi, Operator or another object

    Returns
    -------
    bool
    """
    return all(_has(psi, name) for name in _TABLE)


class OperatorLike(Protocol):
    """What the forward model and the objective read of an operator.

    Attributes
    ----------
    shape, fine_shape : (int, int)
        Camera pixels (M1, M2) and fine pixels (N1, N2).
    backend : Backend
        Where it computes.
    memory_budget : int
        Bytes that frames which are drawn together may take.
    photons_per_emitter : float
        kappa, already a factor of :meth:`forward`.
    norm : float
        Largest singular value.
    """

    shape: tuple[int, int]
    fine_shape: tuple[int, int]

    @property
    def backend(self) -> Backend: ...

    @property
    def memory_budget(self) -> int: ...

    @property
    def photons_per_emitter(self) -> float: ...

    @property
    def norm(self) -> float: ...

    def forward(self, x: Array) -> Array:
        """Return Psi x, (..., M1, M2), for x (..., N1, N2), in the dtype of x."""

    def adjoint(self, y: Array) -> Array:
        """Return Psi^T y, (..., N1, N2), for y (..., M1, M2), in the dtype of y."""


def require(psi: object, reader: str, advice: str = "") -> None:
    """Raise TypeError with the names that a part of the library reads and an operator does not have.

    Parameters
    ----------
    psi : Psi, Operator or another object
    reader : str
        A key of :data:`READS`.
    advice : str
        What to do instead.
    """
    missing = _missing(psi, reader)
    if missing:
        raise TypeError(
            f"the {reader} reads {', '.join(missing)} of an operator, which {type(psi).__name__} does not have; "
            + (advice or "add them, or derive the operator from fluogan_core.Operator")
        )


def reads(psi: object, reader: str) -> bool:
    """Return whether an operator has all that a part of the library reads of it.

    Parameters
    ----------
    psi : Psi, Operator or another object
    reader : str
        A key of :data:`READS`.
    """
    return not _missing(psi, reader)


def _missing(psi: object, reader: str) -> list[str]:
    return [name for name in READS[reader] if not (_has(psi, name) or (name == "matrix" and has_table(psi)))]


def refuse_own(psi: object, task: str) -> None:
    """Raise TypeError for an operator of the user's own where one is made for another field.

    Parameters
    ----------
    psi : Psi, Operator or another object
    task : str
        As the message calls it.
    """
    if type(psi) is not Psi:
        raise TypeError(
            f"{task} needs fluogan_core.Psi, which is known for any part of a field; {type(psi).__name__} is an operator of "
            "your own for one field: reconstruct that field as a whole"
        )


def _has(psi: object, name: str) -> bool:
    """Whether there is an attribute, without computing one that is made at the first use."""
    return hasattr(type(psi), name) or name in getattr(psi, "__dict__", {}) or hasattr(psi, name)


def usable(psi: OperatorLike, reader: str, advice: str = "") -> Psi:
    """Return the operator, checked: it has the names that a part of the library reads, and they agree with each other.

    Parameters
    ----------
    psi : Psi, Operator or another object
    reader : str
        A key of :data:`READS`.
    advice : str
        What to do where names are missing.

    Returns
    -------
    Psi
        The very object; for types, one of the library's.

    Raises
    ------
    TypeError
        If names are missing.
    ValueError
        If what they compute does not agree.
    """
    if type(psi) is Psi:
        return psi
    require(psi, reader, advice)
    for name in ("shape", "fine_shape"):
        image_shape(getattr(psi, name), f"{name} of the operator")
    known = getattr(psi, "__dict__", {})
    if not known.get("_agrees"):
        faults = faults_of(psi)
        if faults:
            raise ValueError(
                f"{type(psi).__name__} is no linear operator that agrees with itself: {'; '.join(faults)} "
                "(fluogan_core.testing.assert_operator checks one)"
            )
        if known:
            known["_agrees"] = True
    return cast(Psi, psi)


def reads_table() -> str:
    """Return :data:`READS` as a Markdown table, for the documentation."""
    rows = (f"| {reader} | {', '.join(f'`{name}`' for name in names)} |" for reader, names in READS.items())
    return "\n".join(["| part | reads |", "|---|---|", *rows])
