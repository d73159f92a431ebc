"""Past one machine: tiles of a large field, windows of a movie, batches of files, on engines that exist."""

from .batch import batch, recordings_in
from .canvas import image
from .drive import finish, reconstruct_tiles, run_share
from .engines import run_tiles
from .field import calibrate_field
from .movie import Image, movie
from .plan import Plan, load_plan
from .prepare import prepare
from .unit import run_tile

__all__ = [
    "Image",
    "Plan",
    "batch",
    "calibrate_field",
    "finish",
    "image",
    "load_plan",
    "movie",
    "prepare",
    "reconstruct_tiles",
    "recordings_in",
    "run_share",
    "run_tile",
    "run_tiles",
]
