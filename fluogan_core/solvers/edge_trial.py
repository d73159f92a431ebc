"""What an edge costs in the fit of the likelihood: some weights are tried in turn, and frames that were set aside choose.

No one weight is right.  A high one keeps the wide flat, a low one keeps what is thin from being drawn wide; which of the two a
sample is made of, its frames can say.  A part of them is set aside.  The fit to the others goes on from the lowest weight to
the highest; what it has found at the end of each is noted, and the frames set aside are asked by how much the next makes them
likelier (:mod:`fluogan_core.solvers.unseen_gain`).  Then all frames are fitted with the weight that was chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..backend.typing import Array, State
from ..tuning import DEFAULT, LikelihoodPhaseTuning
from .schema import ArrayOf, EachOf, ListOf, NumberOf, Schema
from .splits import held_out_frames, seen_frames
from .unseen_gain import Pair, UnseenGain

__all__ = ["EdgeTrial"]


class EdgeTrial:
    """Which weight of edges is in use, and what was noted of those before.

    Parameters
    ----------
    weights : sequence of float
        In rising order.
    frames : int
    planned : int
        Steps of the phase.
    aside : float
        Part of the frames that is set aside; 0 fits all frames with the one weight from the beginning.
    tuning : LikelihoodPhaseTuning

    Attributes
    ----------
    order : (T,) int64
        Numbers of the frames: those that are seen, those that judge, and the others that were set aside.
    judges : slice
        The frames that judge, in their order: of those set aside no more than the tuning's ``most_judges``, spread evenly.
    began : int
        Step after which the weight in use came into use.
    chosen : int or None
        Number of the weight that was chosen.
    gains : list of (n,) float64
        By how much each frame that judges is likelier with a weight than with the one before.

    Examples
    --------
    >>> trial = EdgeTrial((0.3, 1.0, 4.0), 100, 40, aside=0.25)
    >>> trial.fitted, trial.aside, trial.ends
    (slice(0, 75, None), slice(75, 100, None), (12, 18, 24))
    """

    def __init__(
        self,
        weights: Sequence[float],
        frames: int,
        planned: int,
        *,
        aside: float,
        tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase,
    ) -> None:
        self.weights, self.tuning = tuple(weights), tuning
        unseen = held_out_frames(frames, aside)
        seen = seen_frames(frames, unseen)
        asked = (np.arange(min(len(unseen), tuning.most_judges)) + 0.5) * max(1.0, len(unseen) / tuning.most_judges)
        judges = unseen[asked.astype(np.int64)]
        self.order = np.concatenate([seen, judges, np.setdiff1d(unseen, judges)])
        self.frames, self.seen, self.judges = frames, len(seen), slice(len(seen), len(seen) + len(judges))
        first, last = tuning.edges_tried
        between = np.linspace(first, last, len(self.weights)) if len(self.weights) > 1 else [last]
        self.ends = tuple(math.ceil(round(part * planned, 9)) for part in between)
        self.began = 0
        self.notes: list[tuple[Pair, Array, Array]] = []
        self.gains: list[np.ndarray] = []
        self.chosen: int | None = None if len(unseen) else 0

    @property
    def open(self) -> bool:
        """Whether a weight is left that was not tried."""
        return self.chosen is None and len(self.notes) < len(self.weights)

    @property
    def weight(self) -> float:
        """What an edge costs now, nats."""
        return self.weights[len(self.notes) if self.chosen is None else self.chosen]

    @property
    def fitted(self) -> slice:
        """The frames that are fitted, in their order."""
        return slice(0, self.seen if self.chosen is None else self.frames)

    @property
    def aside(self) -> slice:
        """The frames that were set aside, in their order."""
        return slice(self.seen, self.frames)

    def due(self, taken: int) -> bool:
        """Whether the weight in use has had its steps."""
        return self.open and taken >= self.ends[len(self.notes)]

    def note(self, taken: int, pair: Pair, images: tuple[Array, Array]) -> None:
        """Note what was found with the weight in use: for the judgement, and to go on from."""
        self.notes.append((pair, *images))
        self.began = taken

    @property
    def neighbours(self) -> list[tuple[Pair, Pair]]:
        """What was found with each weight but the first, beside what was found with the one before."""
        pairs = [note[0] for note in self.notes]
        return list(itertools.pairwise(pairs))

    def choose(self, gains: Sequence[UnseenGain]) -> None:
        """Choose the largest weight that is not clearly worse than the best one, after Breiman et al. 1984."""
        self.gains = [gain.of_frames for gain in gains]
        total = np.cumsum([np.zeros(self.judges.stop - self.judges.start), *self.gains], axis=0)
        best = int(np.argmax(total.sum(axis=1)))
        lost = [UnseenGain(total[best] - of_frames) for of_frames in total]
        kept = [k for k, loss in enumerate(lost) if k == best or loss.total <= self.tuning.edges_errors * loss.error]
        self.chosen = max(kept)

    @property
    def found(self) -> Pair:
        """What was found with the weight that was chosen."""
        assert self.chosen is not None
        return self.notes[self.chosen][0]

    def begin(self) -> tuple[Array, Array]:
        """Return z and b to go on from, as they were at the end of the weight that was chosen; forget the notes."""
        assert self.chosen is not None
        _, z, b = self.notes[self.chosen]
        self.notes = []
        return z, b

    def state_dict(self) -> State:
        """Return what :meth:`load_state_dict` takes."""
        notes = {str(k): [pair.x, pair.b, z, b] for k, (pair, z, b) in enumerate(self.notes)}
        gains = {str(k): gain for k, gain in enumerate(self.gains)}
        return {"began": self.began, "chosen": -1 if self.chosen is None else self.chosen, "notes": notes, "gains": gains}

    def schema(self, fine: tuple[int, int], shape: tuple[int, int]) -> Schema:
        """Return what such a state must hold."""
        image, background = ArrayOf(fine, low=0), ArrayOf(shape, low=0)
        return {
            "began": NumberOf(0, whole=True),
            "chosen": NumberOf(-1, whole=True),
            "notes": EachOf(ListOf((image, background, image, background))),
            "gains": EachOf(ArrayOf((self.judges.stop - self.judges.start,))),
        }

    def load_state_dict(self, state: State, asarray: Callable[[Array], Array]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.began = int(state["began"])
        self.chosen = None if state["chosen"] < 0 else int(state["chosen"])
        self.gains = [np.array(state["gains"][str(k)]) for k in range(len(state["gains"]))]
        notes = [state["notes"][str(k)] for k in range(len(state["notes"]))]
        self.notes = [(Pair(np.array(x), np.array(b)), asarray(z), asarray(of_z)) for x, b, z, of_z in notes]
