"""Every hand-written kernel: CPU (Numba) and CUDA twins under one name.  Installed as ``fluogan_core.kernels``."""
