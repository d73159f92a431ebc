"""What the phases of a reconstruction have in common: the images that they hand on, why they end, and their protocol."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..backend.typing import Array, State
from ..physics.value import read_only
from .schema import Schema

__all__ = ["Images", "Phase", "Stop", "StopReason", "record_of"]

#: Terms of (11) that add up to the objective, by the names that the history has for them.
TERMS = ("fidelity", "sparsity", "total_variation", "prior", "smoothness", "adversarial")


class Images(NamedTuple):
    """The unknowns, on the backend.

    Attributes
    ----------
    z, x : (N1, N2) float32
        :math:`x = G z` (:class:`fluogan_core.objective.blur.GaussianKernel`).
    b : (M1, M2) float32

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> z, x, b = fg.Images(np.zeros((4, 4)), np.zeros((4, 4)), np.ones((2, 2)))
    >>> b.sum()
    np.float64(4.0)
    """

    z: Array
    x: Array
    b: Array

    def protected(self) -> Images:
        """Return the same images for others to look at: views that cannot be written to, copies of a card's arrays.

        Returns
        -------
        Images
        """
        return Images(*(read_only(a.view() if isinstance(a, np.ndarray) else a.copy()) for a in self))


class StopReason(enum.Enum):
    """Why a phase ended; the value says it in words.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> fg.StopReason.STEPS.open, fg.StopReason.CONVERGED.open
    (True, False)
    """

    STEPS = "all {steps} steps taken"
    CONVERGED = "converged after {steps} steps"
    SETTLED = "settled after {steps} steps"
    UNSEEN_FRAMES = "ended after {steps} steps, unseen frames speak against it"
    NO_LIGHT = "left out, there is no light in x"
    NO_FLICKER = "left out, {detail}"
    CALLBACK = "ended by the callback after {steps} steps"
    NOT_ASKED = "not asked for"
    NOT_MIXED = "given up after {steps} steps, its chains did not mix ({detail})"
    NOT_NEEDED = "not needed"
    NOT_TRIED = "not tried, {detail}"
    NOT_BETTER = "given up after {steps} steps, unseen frames speak against it ({detail})"
    CHOSEN = "chosen after {steps} steps ({detail})"

    @property
    def open(self) -> bool:
        """Whether more steps could follow if they were asked for."""
        return self in (StopReason.STEPS, StopReason.CALLBACK)

    @property
    def given_up(self) -> bool:
        """Whether the phase's own images are not those that it hands on."""
        return self in (StopReason.NOT_MIXED, StopReason.NOT_TRIED, StopReason.NOT_BETTER)


@dataclass(frozen=True)
class Stop:
    """How a phase ended.

    Attributes
    ----------
    reason : StopReason
    steps : int
        Steps that it took.
    detail : str
        What the reason needs to be understood.
    share : float
        Part that its images have in what it hands on, 0 to 1; the rest are those of the phase before.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> str(fg.Stop(fg.StopReason.CONVERGED, 120))
    'converged after 120 steps'
    """

    reason: StopReason
    steps: int
    detail: str = ""
    share: float = 1.0

    @property
    def rejected(self) -> bool:
        """Whether its images were given up for those of the phase before."""
        return self.share == 0

    def __str__(self) -> str:
        words = self.reason.value.format(steps=self.steps, detail=self.detail)
        if self.rejected:
            return words + ", and rejected: the mean fit predicts unseen frames better"
        if self.share < 1:
            return words + f", and averaged with the mean fit (weight {self.share:.2f}), since neither is clearly better"
        return words

    def state_dict(self) -> State:
        """Return what :meth:`from_state` makes it of again.

        Returns
        -------
        dict
        """
        return {"reason": self.reason.name, "steps": self.steps, "detail": self.detail, "share": self.share}

    @classmethod
    def from_state(cls, state: State) -> Stop:
        """Return what :meth:`state_dict` was made of."""
        return cls(StopReason[state["reason"]], int(state["steps"]), str(state["detail"]), float(state["share"]))


class Phase(Protocol):
    """A part of a reconstruction: it starts from images, takes steps, and ends for a reason.

    Attributes
    ----------
    name : str
        One word: ``"mean"``, ``"covariance"``, ``"likelihood"``, ``"network"``.
    planned : int
        At most so many steps.
    taken : int
    stop : Stop or None
        None while the phase goes on.
    timings : dict of str to float
        Seconds by what they were spent on.
    images : Images
        As they are now.
    outcome : Images
        What the phase has to give: its images, an average of them, or those that it started from.
    """

    name: str
    planned: int
    taken: int
    stop: Stop | None
    timings: dict[str, float]

    @property
    def images(self) -> Images: ...

    @property
    def outcome(self) -> Images: ...

    def start(self, images: Images, *, fitted: bool) -> None:
        """Begin at these images; ``fitted`` says that a phase before has taken steps.  May set ``stop`` at once."""

    def step(self) -> dict[str, float]:
        """Take one step and return its record; set ``stop`` if it was the last."""

    def headline(self, record: dict[str, float]) -> str:
        """Return what a progress line says besides the number of the step."""

    def state_dict(self) -> State:
        """Return what a resumed phase needs; ``taken`` is part of it."""

    def schema(self, begun: bool) -> Schema:
        """Return what such a state must hold (:mod:`fluogan_core.solvers.schema`), of a phase that has taken a step or not."""

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""


#: Called after every step with the solver and the step's record; ``False`` ends the run with a whole result.
Callback = Callable[[Any, dict[str, float]], Any]


def record_of(terms: dict[str, float], **values: float) -> dict[str, float]:
    """Return a step's record: the terms, their sum as ``objective``, and the other values."""
    total = sum(value for name, value in terms.items() if name in TERMS and not math.isnan(value))
    return terms | {"objective": total} | values
