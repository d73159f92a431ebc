"""Recorded stacks, reconstructed by this library and by other methods: ``python -m benchmarks.real``.

There is no known truth.  It can be measured whether halves of a stack agree, whether one half predicts the other,
and whether an image, blurred, explains the mean frame.  The rest is for the eye.
"""
