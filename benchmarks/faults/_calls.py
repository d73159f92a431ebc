"""Public functions called with arguments at random, sound and odd ones: finite numbers, or an error of a documented type."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ._functions import functions

__all__ = ["calls"]

#: What a public function may raise on arguments that make no sense.
PROMISED = (ValueError, TypeError, FloatingPointError, MemoryError)
#: And of those that read or write files, or look for a card.
PROMISED_BESIDES = {
    "read_stack": (*PROMISED, OSError),
    "write_result": (*PROMISED, OSError),
    "get_backend": (*PROMISED, RuntimeError),
}
#: Seconds of a processor within which a call on a small field must be back, and seconds by the clock on a busy machine.
LONGEST, LONGEST_BY_CLOCK = 60, 900


def sound(value: object) -> bool:
    """Whether an argument is finite, in single precision too."""
    if isinstance(value, np.ma.MaskedArray | str):
        return False
    if isinstance(value, np.ndarray | list):
        array = np.asarray(value)
        return array.dtype.kind in "biuf" and bool((np.abs(array.astype(float)) < 1e37).all())
    if isinstance(value, int | float | np.generic):
        return bool(np.isfinite(np.float64(np.real(value))))
    return True


#: What is not a number where something cannot be known, and says so in its documentation.
_UNKNOWN = {
    "PSFWidth", "PSFShape", "CameraEstimate", "BlurredAgreement", "Bleaching", "Drift", "Evidence", "Plan", "AgreementMap",
    "ResolutionMap",
}  # fmt: skip


def not_finite(value: object, name: str = "result") -> str:
    """The part of a result that holds NaN or infinite values; empty if none does."""
    if type(value).__name__ in _UNKNOWN:
        return ""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
        return name
    if isinstance(value, float) and not math.isfinite(value):
        return name
    if type(value).__name__ == "Result":
        return next(filter(None, (not_finite(getattr(value, part), part) for part in ("x", "b", "x_mean_fit", "mean"))), "")
    if type(value).__name__ == "Calibration":
        return next(filter(None, (not_finite(getattr(value, part), part) for part in ("mean", "camera"))), "")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return next(filter(None, (not_finite(part, f"{name}[{key!r}]") for key, part in value.items())), "")
    if isinstance(value, tuple | list):
        return next(filter(None, (not_finite(part, f"{name}[{number}]") for number, part in enumerate(value))), "")
    return ""


def said(value: object) -> str:
    """An argument, in short."""
    if isinstance(value, np.ndarray):
        return f"<{value.shape} {value.dtype} {type(value).__name__}>"
    return repr(value)[:40]


def call(number: int, seed: int) -> str:
    """Make one call; return what gave way, "" if nothing did."""
    rng = np.random.default_rng((seed, number))
    table = functions()
    name = list(table)[int(rng.integers(len(table)))]
    function, pools = table[name]
    given = {key: pool[0 if rng.random() < 0.7 else int(rng.integers(len(pool)))] for key, pool in pools.items()}
    how = f"{name}({', '.join(f'{key}={said(value)}' for key, value in given.items())}), seed ({seed}, {number})"
    try:
        with warnings.catch_warnings(record=True) as noise:
            warnings.simplefilter("always", RuntimeWarning)
            value = function(**given)
    except PROMISED_BESIDES.get(name, PROMISED) as error:
        return "" if str(error).strip() else f"{how}: {type(error).__name__} without a word"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{how}: {type(error).__name__}: {error} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})"
    if not all(map(sound, given.values())):
        return ""
    if numerical := [f"{each.message}" for each in noise if issubclass(each.category, RuntimeWarning)]:
        return f"{how}: warns of {numerical[0]!r}"
    part = not_finite(value)
    return f"{how}: {part} is not finite" if part else ""


def calls(count: int, seed: int, folder: Path) -> Iterator[str]:
    """Make calls in forked processes, some at a time: a hang or a crash ends one of them, and the next goes on behind it.

    They work in ``folder``: a result may be asked for in "" or ".".
    """
    number = 0
    while number < count:
        reads, writes = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reads)
            os.chdir(folder)
            with os.fdopen(writes, "w") as out:
                for each in range(number, count):
                    signal.setitimer(signal.ITIMER_PROF, LONGEST)
                    signal.alarm(LONGEST_BY_CLOCK)
                    out.write(" ".join(call(each, seed).split()) + "\n")
                    out.flush()
            os._exit(0)
        os.close(writes)
        with os.fdopen(reads) as answers:
            for line in answers:
                number += 1
                yield line.strip()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            number += 1
            hangs = status in (-signal.SIGALRM, -signal.SIGPROF)
            yield f"seed ({seed}, {number - 1}): {'hangs' if hangs else f'ends with {status}'}"
