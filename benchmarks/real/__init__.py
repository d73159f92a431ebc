"""Recorded stacks: what the library makes of them beside what one would do otherwise: ``python -m benchmarks.real``.

There is no truth here.  What can be measured is whether halves of a stack tell the same, whether one half predicts the other,
and whether an image, blurred, explains the mean frame; the rest is for the eye.
"""
