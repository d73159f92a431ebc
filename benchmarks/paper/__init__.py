"""The paper's numerical experiment, and what it leaves open: ``python -m benchmarks.paper``.

Lines 100 nm wide at 390 to 120 nm from each other under a PSF of 318 nm, recorded by the double Poisson model and by blinking
emitters, in bright and in dim light; each pair beside its control, a uniform bar that must not be split.  Camera and
background are estimated from the frames.
"""
