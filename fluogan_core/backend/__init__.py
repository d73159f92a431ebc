"""Where arrays live and who computes: NumPy or CuPy, counter-based randomness, DLPack to torch, checks of what is passed in."""

from .arrays import Backend, backend_of, default_memory_budget, get_backend, why_no_gpu

__all__ = ["Backend", "backend_of", "default_memory_budget", "get_backend", "why_no_gpu"]
