"""Eq. (12) as it is printed: independent frames for each perturbed rate, and for the unperturbed one."""

from __future__ import annotations

import numpy as np

from ..backend.random import Stage
from ..backend.typing import Array
from ..physics.requirements import require
from .job import Gradient, GradientJob, GradientWithError, RunningMean

__all__ = ["direct"]


def direct(job: GradientJob) -> Gradient | GradientWithError:
    """Return E[D(Y(x, b + C_i))] - E[D(Y(x, b))] from independent frames for every i."""
    require(job.model.psi, "estimator of independent frames")
    model, evaluator, xp = job.model, job.evaluator, job.model.backend.xp
    camera, fine = model.psi.shape, model.psi.fine_shape
    n, m = fine[0] * fine[1], camera[0] * camera[1]
    if (job.first_frame + job.frames) * (n + m) >= 2**32:
        raise ValueError(
            f"method='direct' would need {job.frames * (n + m)} frames, more than 32-bit counters tell apart; "
            "use 'coupled', which has the same expectation"
        )
    base = RunningMean(job.with_error) if job.score is None else job.score
    y = model.sample(job.x, job.b, job.frames, job.seed, first_frame=job.first_frame, step=job.step)
    for start in range(0, job.frames, evaluator.chunk):
        base.add(evaluator.values(y[start : start + evaluator.chunk]))

    means, variances = xp.empty(n + m), xp.zeros(n + m)
    # 200 bytes: the words and candidates of one emission
    chunk = max(1, min(evaluator.chunk, job.memory_budget // (200 * n)))
    for i in range(n + m):
        if i < n:
            extra = model.psi.column((i // fine[1], i % fine[1]))
        else:
            extra = xp.zeros(camera)
            extra[(i - n) // camera[1], (i - n) % camera[1]] = 1.0
        score = RunningMean(job.with_error)
        for start in range(0, job.frames, chunk):
            frames = np.arange(job.first_frame + start, job.first_frame + min(start + chunk, job.frames))
            numbers = frames * (n + m) + i
            if i < n or job.background_rule == "rate":
                perturbed = _frames(job, job.b + extra, numbers)
            else:
                perturbed = _frames(job, job.b, numbers) + np.float32(model.gain) * extra.astype(np.float32)
            score.add(evaluator.values(perturbed))
        means[i] = score.mean - base.mean
        if job.with_error:
            variances[i] = score.variance / score.weight + base.variance / base.weight
    return job.result(
        means[:n].reshape(fine), means[n:].reshape(camera), variances[:n].reshape(fine), variances[n:].reshape(camera)
    )


def _frames(job: GradientJob, b: Array, numbers: np.ndarray) -> Array:
    """Frames of x and b with these numbers, from random streams that no other method uses."""
    z = job.model.emissions(job.x, numbers, job.seed, job.step, Stage.DIRECT_EMISSION)
    stages = (Stage.DIRECT_DETECTION, Stage.DIRECT_READ_NOISE)
    return job.model.detect(job.model.psi.forward(z), b, numbers, job.seed, job.step, stages)
