"""Adapters to host toolkits: one file for each, imported only when asked for.

``import fluogan_core.interop.pylops`` needs pylops, and so on; nothing else of the library does.  SciPy needs no file: see
:meth:`fluogan_core.Psi.as_linear_operator`.
"""
