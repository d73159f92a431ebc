"""What a TIFF file says of its pixels and frames, in nanometres and seconds: OME, ImageJ or plain resolution tags."""

from __future__ import annotations

import json
import logging
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import tifffile

__all__ = ["PLAUSIBLE_PIXEL_NM", "frame_interval_s", "length_in_nm", "pixel_size_nm"]

log = logging.getLogger("fluogan_core")

#: Camera pixels that a microscope can have, nm in the object plane.  Metadata outside is a default (72 dpi, 1 px).
PLAUSIBLE_PIXEL_NM = (1.0, 20_000.0)

#: Units as files spell them, in lower case; of words, the singular.
_NM_PER_UNIT = {
    **dict.fromkeys(("å", "angstrom", "ångström"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("inch", "inches", "in"), 2.54e7),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}
_SECONDS_PER_UNIT = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "\\u00b5s", "usec", "µsec", "microsecond"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanosecond"), 1e-9),
    **dict.fromkeys(("min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
}


def _unit(text: object, units: dict[str, float]) -> float | None:
    """The factor of a unit, spelt as a symbol or a word, singular or plural."""
    name = str(text).strip().lower()
    return units.get(name, units.get(name.removesuffix("s")))


def length_in_nm(length: float, unit: str) -> float | None:
    """Return a pixel's side in nm, from a length and its unit in a file's words; None if no microscope has such a pixel."""
    per, (low, high) = _unit(unit, _NM_PER_UNIT), PLAUSIBLE_PIXEL_NM
    return float(f"{length * per:.6g}") if per is not None and low <= length * per <= high else None


def imagej_counts(metadata: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """How many images an ImageJ header promises, and along which axes longer than 1."""
    sizes = {axis: int(metadata.get(axis, 1)) for axis in ("channels", "slices", "frames")}
    promised = math.prod(sizes.values())
    axes = tuple(axis for axis, size in sizes.items() if size > 1)
    return (promised if axes else int(metadata.get("images", 1))), axes


def shaped_count(tif: tifffile.TiffFile) -> int:
    """How many images the header promises that tifffile writes by default; 0 if it says nothing that can be meant."""
    page: Any = tif.pages.first
    try:
        shape = json.loads(page.shaped_description).get("shape")
    except (ValueError, AttributeError):
        return 0
    if not (isinstance(shape, list) and len(shape) > 2 and all(isinstance(size, int) and size > 0 for size in shape)):
        return 0
    return math.prod(shape[:-2]) if shape[-2:] == [page.imagelength, page.imagewidth] else 0


def ome_file_count(text: str | None) -> int:
    """How many files OME-XML says that its images lie in."""
    root = _ome_root(text)
    if root is None:
        return 0
    return len({element.text for element in root.iter() if element.tag.rsplit("}", 1)[-1] == "UUID"})


def pixel_size_nm(tif: tifffile.TiffFile, image: str = "") -> float | None:
    """The camera pixel in nm from OME (of the image of this name), ImageJ or plain metadata; None if absent or implausible."""
    sizes: list[float | None] = [None, None]
    if tif.ome_metadata:
        pixels = _ome_pixels(tif.ome_metadata, image)
        for axis, name in enumerate("YX"):
            unit = _unit(pixels.get(f"PhysicalSize{name}Unit", "µm"), _NM_PER_UNIT)
            size = _positive(pixels.get(f"PhysicalSize{name}"))
            sizes[axis] = None if unit is None or size is None else size * unit
    else:
        tags = tif.pages.first.tags
        if tif.is_imagej:
            unit = _unit((tif.imagej_metadata or {}).get("unit", ""), _NM_PER_UNIT)
        else:
            stated = tags.valueof("ResolutionUnit", 2)
            unit = {2: _NM_PER_UNIT["inch"], 3: _NM_PER_UNIT["cm"]}.get(int(stated))
        for axis, name in enumerate(("YResolution", "XResolution")):
            per_unit = _ratio(tags.valueof(name))
            sizes[axis] = None if unit is None or per_unit is None else unit / per_unit
    down, across = sizes
    if down is None or across is None:
        return None
    low, high = PLAUSIBLE_PIXEL_NM
    if not (low <= down <= high and low <= across <= high):
        log.info("the file states a pixel of %.4g x %.4g nm, which no microscope has: ignored", down, across)
        return None
    if abs(down - across) > 0.01 * across:
        log.warning("the file states oblong pixels (%.4g x %.4g nm), but square ones are needed: ignored", down, across)
        return None
    # Resolutions are stored as ratios of integers: what comes back as 99.99996 was written as 100.
    return float(f"{across:.6g}")


def frame_interval_s(tif: tifffile.TiffFile, image: str = "") -> float | None:
    """Seconds from frame to frame from OME (of the image of this name) or ImageJ metadata."""
    if tif.ome_metadata:
        pixels = _ome_pixels(tif.ome_metadata, image)
        unit = _unit(pixels.get("TimeIncrementUnit", "s"), _SECONDS_PER_UNIT)
        interval = _positive(pixels.get("TimeIncrement"))
    else:
        metadata = tif.imagej_metadata or {}
        unit = _unit(metadata.get("tunit", "sec"), _SECONDS_PER_UNIT)
        interval = _positive(metadata.get("finterval"))
        rate = _positive(metadata.get("fps"))
        if interval is None and rate is not None:
            unit, interval = 1.0, 1.0 / rate
    return None if interval is None or unit is None else interval * unit


def _ome_root(text: str | None) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return None


def _ome_pixels(text: str, image: str = "") -> dict[str, str]:
    """The attributes of the Pixels element of the image of this name in OME-XML; of the first if none has it."""
    root = _ome_root(text)
    images = [] if root is None else [e for e in root.iter() if e.tag.rsplit("}", 1)[-1] == "Image"]
    named = [e for e in images if image and e.get("Name") == image]
    for element in named or images:
        for child in element:
            if child.tag.rsplit("}", 1)[-1] == "Pixels":
                return dict(child.attrib)
    return {}


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _ratio(value: Any) -> float | None:
    """A TIFF rational (numerator, denominator) as a positive float."""
    if isinstance(value, tuple) and len(value) == 2:
        above, below = _positive(value[0]), _positive(value[1])
        return None if above is None or below is None else above / below
    return _positive(value)
