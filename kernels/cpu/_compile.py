"""How every CPU kernel is compiled: :func:`kernel` for what Python calls, :func:`helper` or :func:`inlined` for what it calls.

::

    from ._compile import helper, kernel

    @helper
    def square(a):
        return a * a

    @kernel()
    def squares(x, out):
        for i in range(x.size):
            out[i] = square(x[i])

All release the GIL (threads are plain Python ones, see ``threads.py``), divide as NumPy does (no exception, so that loops
vectorise) and keep IEEE arithmetic unless told otherwise (the counts must equal those of the array functions).  Kernels are
cached on disk, helpers are compiled into them.  ``inlined`` is a helper pasted into its caller before types are known: a loop
over a call that returns a tuple is not vectorised, the same loop over the pasted statements is (Philox: 17 ns against 4 ns per
counter), for a longer compilation.

Numba's own ``cache=True`` looks at the file that holds the kernel and at no other, so that an edited helper of another module
goes unnoticed and stale machine code runs.  Here the stamp of every cache entry is a digest of *all* sources of this folder:
whatever is edited, every kernel is compiled anew, once.  Constants that a kernel takes from outside this folder would escape
the digest; there are none, kernels import only NumPy, Numba and ``math``.

Numba compiles a kernel anew for arrays of another layout, and for read-only ones.  Whether a caller's array may be written to
must not cost seconds: every array that a kernel only reads goes through :func:`given`.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["given", "helper", "inlined", "kernel", "sources_digest"]

log = logging.getLogger(__name__)

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


@functools.cache
def sources_digest() -> str:
    """Return the SHA-256 digest of the names and contents of all Python sources of this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


class _CheckedFiles(IndexDataCacheFile):
    """Numba's files of a cache, each with the SHA-256 of its content in front: what is damaged is compiled anew.

    Numba's own raise what unpickling raises, in every later process, where a file was cut or emptied (a full disk, a machine
    that lost power), and run machine code with flipped bits.
    """

    def _load_index(self) -> dict[Any, str]:
        try:
            version, stamp, overloads = self._unpacked(self._index_path)
        except OSError:
            return {}
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._pack(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._unpacked(self._data_path(name))

    def _save_data(self, name: str, data: Any) -> None:
        self._pack(self._data_path(name), data)

    def _pack(self, path: str, content: Any) -> None:
        packed = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(packed).digest() + packed)

    def _unpacked(self, path: str) -> Any:
        """What a file holds; OSError, for which Numba compiles, if it is damaged."""
        content = Path(path).read_bytes()
        length = hashlib.sha256().digest_size
        if hashlib.sha256(content[length:]).digest() != content[:length]:
            log.info("a file of the kernels' cache is damaged, the kernel is compiled anew: %s", path)
            raise OSError(f"{path} is damaged")
        return pickle.loads(content[length:])


class _FolderCache(FunctionCache):
    """Numba's per-function cache, fresh only while no source of this folder has changed; it costs no work if it fails."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = sources_digest()
        # In the name as well: a written index is unpickled before its stamp is looked at, which fails where it names a class
        # that has since moved.
        name = f"{self._impl.filename_base}-{stamp[:16]}"
        self._cache_file = _CheckedFiles(cache_path=self._cache_path, filename_base=name, source_stamp=stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk
            log.info("a compiled kernel could not be kept for the next process: %s", error)


def given(array: Any, dtype: Any = None) -> np.ndarray:
    """Return an array that a kernel reads, as the one kind for which it is compiled: C-contiguous, aligned, read-only.

    Memory is shared where the array is contiguous, aligned and of the dtype; the caller's flags stay as they are.
    """
    taken = array if type(array) is np.ndarray and (dtype is None or array.dtype == dtype) else np.asarray(array, dtype=dtype)
    flags = taken.flags
    if not (flags.c_contiguous and flags.aligned):
        taken = np.require(taken, requirements=("C", "A"))
    elif not flags.writeable:
        return taken
    view = taken.view()
    view.setflags(write=False)
    return view


def helper(function: Callable[..., Any]) -> Any:
    """Compile a function that only kernels call; LLVM inlines it where that pays."""
    return numba.njit(**_OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a short helper that is pasted into its callers, so that their loops vectorise."""
    return numba.njit(inline="always", **_OPTIONS)(function)


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a kernel on first use and keeps it on disk while the sources are unchanged.

    Parameters
    ----------
    **options
        Further options of ``numba.njit``.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**{**_OPTIONS, **options})(function)
        if dispatcher is function:  # NUMBA_DISABLE_JIT
            return function
        try:
            dispatcher._cache = _FolderCache(function)
        except RuntimeError as error:  # neither the package's folder nor the user's cache can be written
            log.warning("kernel %s is compiled in every process: %s", function.__name__, error)
        return dispatcher

    return compiled
