"""What an adapter says where its host is not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..backend.cards import why_no_gpu

__all__ = ["cupy_only_where_usable", "needs"]


@contextlib.contextmanager
def needs(package: str, extra: str = "interop") -> Iterator[None]:
    """Let a failed import of a host say how to get it.

    Parameters
    ----------
    package : str
        The host.
    extra : str
        That installs it.

    Raises
    ------
    ImportError
        If the host is not there, or does not load beside the torch that is.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"fluogan_core.interop.{package} needs {package}, which cannot be imported ({error}); "
            f"install it: pip install 'fluogan-core[{extra}]'"
        ) from error
    except RuntimeError as error:
        # torchvision registers its operators when it is imported, and finds none of them beside another build of torch
        raise ImportError(
            f"{package} does not load beside the torch that is installed ({error}); torch and torchvision must come from one "
            "place: both of the builds for CUDA, or both of those for the CPU"
        ) from error


def cupy_only_where_usable() -> None:
    """Let pylops leave CuPy alone where there is no card, by the variable that it reads when it is imported.

    It imports all that it knows of CuPy where CuPy is installed, and fails where CUDA's libraries are not.
    """
    if why_no_gpu() is not None:
        os.environ.setdefault("CUPY_PYLOPS", "0")
