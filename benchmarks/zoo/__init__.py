"""Scenes drawn at random over what users vary, reconstructed by the library and by others: ``python -m benchmarks.zoo``.

The light of the scenes is simulated here with NumPy and SciPy alone.  Nothing of it comes from ``fluogan_core.simulation``:
an error of the library's own simulator or operator cannot hide itself.
"""
