r"""The estimators that couple both terms of eq. (12): one simulated frame y serves every perturbation,
:math:`y_i = y + \alpha P(C_i)`.
"""

from __future__ import annotations

from .job import Gradient, GradientJob, GradientWithError

__all__ = ["corrected", "coupled", "linear", "photon"]


def linear(job: GradientJob) -> Gradient | GradientWithError:
    r"""Return :math:`\alpha \Psi^T E[\nabla D]`: the shift of the mean only."""
    means = job.means()
    for _, y in job.sampled_frames():
        job.add_camera(means, job.model.gain * job.evaluator.slope(y))
    return job.gradient(means)


def photon(job: GradientJob) -> Gradient | GradientWithError:
    r"""Return :math:`\Psi^T E[D(y + \alpha e_j) - D(y)]`, without what several photons of one emission do together."""
    means = job.means()
    for numbers, y in job.sampled_frames():
        single = job.evaluator.pixel_differences(y, job.model.gain)
        if job.background_rule == "count":
            job.add_camera(means, single)
        else:
            job.add_blurred(means.x, single)
            means.b.add(job.background(y, numbers))
    return job.gradient(means)


def coupled(job: GradientJob) -> Gradient | GradientWithError:
    r"""Return :math:`E[D(y + \alpha P(C_i)) - D(y)]`, unbiased."""
    means = job.means()
    for numbers, y in job.sampled_frames():
        for group in job.groups(numbers):
            values, of_pixels = job.emissions_and_background(y[group], numbers[group])
            job.add_nodes(means.x, values, len(of_pixels))
            means.b.add(of_pixels)
    return job.gradient(means)


def corrected(job: GradientJob) -> Gradient | GradientWithError:
    """Return ``linear`` of all frames plus, on the first few, ``coupled`` less its own linear prediction; unbiased."""
    means, correction, left = job.means(), job.means(), job.frames_to_correct
    for numbers, y in job.sampled_frames():
        slope = job.evaluator.slope(y)
        job.add_camera(means, job.model.gain * slope)
        few = min(left, len(numbers))
        left -= few
        if not few:
            continue
        y, slope, numbers = y[:few], slope[:few], numbers[:few]
        for group in job.groups(numbers):
            values, of_pixels = job.emissions_and_background(y[group], numbers[group], slope[group])
            job.add_nodes(correction.x, values, len(of_pixels))
            correction.b.add(of_pixels)
    return job.gradient(means, correction)
