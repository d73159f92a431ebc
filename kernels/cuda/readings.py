"""What the host reads of a device: every number when it is known, or many of them in one copy.

A read waits until the device has done everything that was queued before it, and nothing is queued meanwhile.  Within
:meth:`Device.together` numbers stay on the device, and so do the questions whether an input is sound, until all are read at
once.  What is computed from unsound numbers until then is thrown away: whatever the numbers, kernels end, and stay within their
arrays.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .device import Device

__all__ = ["Readings", "readings_of", "together"]

#: Questions that are kept before they are read without being asked for: a critic outside the kernels' family has one per chunk.
_MOST = 256

_open: contextvars.ContextVar[Readings | None] = contextvars.ContextVar("readings", default=None)


class Readings:
    """Questions that wait for their answers, of one device.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._asked: list[tuple[Any, Callable[..., None]]] = []

    def check(self, numbers: Any, judge: Callable[..., None]) -> None:
        """Keep a question for the next read."""
        self._asked.append((numbers.ravel(), judge))
        if len(self._asked) >= _MOST:
            self.read()

    def read(self, *values: Any) -> list[float]:
        """Read all that was asked, judge it in the order in which it was asked, and return these values.

        Parameters
        ----------
        *values : () arrays of the device, or numbers

        Returns
        -------
        list of float
            The host waits for them once, and not at all if nothing is on the device.
        """
        asked, self._asked = self._asked, []
        waiting = [value for value in values if isinstance(value, self.device.xp.ndarray)]
        parts = [*(array for array, _ in asked), *(value.ravel() for value in waiting)]
        numbers = iter(self.device.xp.concatenate(parts).tolist() if parts else ())
        for array, judge in asked:
            judge(*(next(numbers) for _ in range(array.size)))
        return [float(next(numbers)) if isinstance(value, self.device.xp.ndarray) else float(value) for value in values]


def readings_of(device: Device) -> Readings | None:
    """Return the readings that are open for a device in this thread, or None."""
    found = _open.get()
    return found if found is not None and found.device is device else None


@contextlib.contextmanager
def together(device: Device) -> Iterator[Callable[..., list[float]]]:
    """Keep what is asked meanwhile, and read it at the end; see :meth:`Device.together`."""
    outer = readings_of(device)
    if outer is not None:
        yield outer.read
        return
    readings = Readings(device)
    token = _open.set(readings)
    try:
        yield readings.read
        readings.read()
    except Exception as error:
        try:
            readings.read()  # what went wrong first explains the rest
        except Exception as first:
            raise first from error
        raise
    finally:
        _open.reset(token)
