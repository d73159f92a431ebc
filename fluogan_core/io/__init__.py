"""Files in and out: stacks, results, reports, figures."""

from ..stack import Stack, UnreadableStack
from .files import prepare_directory, spare_inputs, write_image
from .lazy import LazyStack, open_lazily
from .result import RESULT_FILES, write_result
from .stack import read_image, read_stack
from .sweep_report import write_sweep

__all__ = [
    "RESULT_FILES",
    "LazyStack",
    "Stack",
    "UnreadableStack",
    "open_lazily",
    "prepare_directory",
    "read_image",
    "read_stack",
    "spare_inputs",
    "write_image",
    "write_result",
    "write_sweep",
]
