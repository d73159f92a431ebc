"""What a TIFF file says of its pixels and frames, in nanometres and seconds: OME, ImageJ or plain resolution tags."""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import tifffile

__all__ = ["PLAUSIBLE_PIXEL_NM", "frame_interval_s", "pixel_size_nm"]

log = logging.getLogger("fluogan_core")

#: Camera pixels that a microscope can have, nm in the object plane.  Metadata outside is a default (72 dpi, 1 px).
PLAUSIBLE_PIXEL_NM = (1.0, 20_000.0)

_NM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("inch", "inches", "in"), 2.54e7),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}
_SECONDS_PER_UNIT = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec"), 1e-6),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}


def pixel_size_nm(tif: tifffile.TiffFile) -> float | None:
    """The camera pixel in nm from OME, ImageJ or plain resolution metadata; None when absent or implausible."""
    sizes: list[float | None] = [None, None]
    if tif.ome_metadata:
        pixels = _ome_pixels(tif.ome_metadata)
        for axis, name in enumerate("YX"):
            unit = _NM_PER_UNIT.get(pixels.get(f"PhysicalSize{name}Unit", "µm").strip().lower())
            size = _positive(pixels.get(f"PhysicalSize{name}"))
            sizes[axis] = None if unit is None or size is None else size * unit
    else:
        tags = tif.pages.first.tags
        if tif.is_imagej:
            unit = _NM_PER_UNIT.get(str((tif.imagej_metadata or {}).get("unit", "")).strip().lower())
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


def frame_interval_s(tif: tifffile.TiffFile) -> float | None:
    """Seconds from frame to frame from OME or ImageJ metadata."""
    if tif.ome_metadata:
        pixels = _ome_pixels(tif.ome_metadata)
        unit = _SECONDS_PER_UNIT.get(pixels.get("TimeIncrementUnit", "s").strip().lower())
        interval = _positive(pixels.get("TimeIncrement"))
    else:
        metadata = tif.imagej_metadata or {}
        unit = _SECONDS_PER_UNIT.get(str(metadata.get("tunit", "sec")).strip().lower())
        interval = _positive(metadata.get("finterval"))
        rate = _positive(metadata.get("fps"))
        if interval is None and rate is not None:
            unit, interval = 1.0, 1.0 / rate
    return None if interval is None or unit is None else interval * unit


def _ome_pixels(text: str) -> dict[str, str]:
    """The attributes of the first Pixels element of OME-XML."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return {}
    element = next((e for e in root.iter() if e.tag.rsplit("}", 1)[-1] == "Pixels"), None)
    return {} if element is None else dict(element.attrib)


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
