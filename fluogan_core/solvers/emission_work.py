"""How much work the chains of emissions would be, said before it is begun."""

from __future__ import annotations

import numpy as np

from ..tuning import DEFAULT, LikelihoodPhaseTuning

__all__ = ["too_much_work"]


def too_much_work(proposals: np.ndarray, planned: int, tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase) -> str:
    """Return why the chains would take too long, in words; nothing if they would not.

    Parameters
    ----------
    proposals : (T,) int
        Of each frame in a sweep; they grow in proportion to its emissions.
    planned : int
        Steps of the phase.
    tuning : LikelihoodPhaseTuning

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.solvers.emission_work import too_much_work
    >>> too_much_work(np.full(500, 200), 40)
    ''
    >>> too_much_work(np.full(10000, 30020), 40)[:29]
    '5000 emissions in a frame are'
    """
    t, frames = tuning, min(len(proposals), tuning.mixing_frames)
    tested = 2 * (t.mixing_start + t.mixing_notes * t.mixing_sweeps) * frames * float(proposals.mean())
    moves = t.sweeps * planned * float(proposals.sum()) + tested
    if moves <= t.most_moves:
        return ""
    emissions = max(float(proposals.mean()) - t.proposals, 0.0) / t.per_emission
    hours = moves * t.seconds_per_move / 3600
    return (
        f"{emissions:.0f} emissions in a frame are {moves:.2g} moves of the chains, {hours:.3g} h or more, and "
        f"{t.most_moves:.2g} moves are the most; if psi's photons_per_emitter is too low (fluogan_core.calibrate measures "
        "it), there are fewer emissions; otherwise take fewer frames, or a part of the field"
    )
