"""What RSE, RSP and the rolling Fourier ring correlation say, as facts, sentences and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..backend.replace import Write
from .files import image_writer
from .page_style import Facts

if TYPE_CHECKING:
    from ..metrics.image_checks import ImageChecks

__all__ = ["CHECK_FILES", "check_facts", "check_words", "check_writers"]

#: What :func:`check_writers` writes.
CHECK_FILES = ("rse.tif", "rsp.tif", "frc.tif")


def check_facts(checks: ImageChecks) -> Facts:
    """The checks as plain values."""
    agreement, found = checks.agreement, checks.resolution
    known = agreement.rsp[np.isfinite(agreement.rsp)]
    return {
        "rsp": agreement.whole.rsp,
        "rsp_reason": agreement.whole.reason,
        "rsp_least": float(known.min()) if known.size else None,
        "rse": agreement.whole.rse,
        "rse_of_noise": checks.noise,
        "scale": agreement.whole.scale,
        "offset": agreement.whole.offset,
        "side_pixels": agreement.side,
        "frc_nm": None if found is None else found.median_nm,
        "frc_share": None if found is None else float(np.isfinite(found.resolution_nm).mean()),
        "frc_reason": "the field is smaller than a block" if found is None else found.reason,
        "frc_own_halves": checks.own_halves,
    }


def check_words(facts: Facts) -> tuple[str, str]:
    """Two statements: on RSE and RSP, and on the rolling Fourier ring correlation."""
    if facts["rsp"] is None:
        first = f"The correlation of the blurred image with the mean of the frames (RSP) is not defined: {facts['rsp_reason']}."
    else:
        least = facts["rsp_least"]
        first = f"Blurred by the PSF, the image correlates with the mean of the frames by {facts['rsp']:.3f} (RSP; 1 is best)"
        first += "." if least is None else f"; the lowest of a region of {facts['side_pixels']} camera pixels is {least:.2f}."
    first += (
        f" It differs by {facts['rse']:.3g} photons per camera pixel (RSE, root mean square); noise alone gives "
        f"{facts['rse_of_noise']:.3g}. Neither figure says anything of detail finer than the PSF."
    )
    whose = "Images of this method from" if facts["frc_own_halves"] else "Fits to the mean of"
    if facts["frc_nm"] is None:
        return first, f"{whose} two halves of the frames have no resolution by rolling FRC: {facts['frc_reason']}."
    return first, (
        f"{whose} two halves of the frames agree down to {facts['frc_nm']:.0f} nm (rolling FRC at 1/7, median of the "
        f"{facts['frc_share']:.0%} of the field where it crosses). Agreement is not truth: an error of both halves agrees too."
    )


def check_writers(checks: ImageChecks, *, pixel_size_nm: float | None, factor: int) -> dict[str, Write]:
    """What writes the maps, by the names of their files.

    Parameters
    ----------
    checks : ImageChecks
    pixel_size_nm : float or None
        Camera pixel, nm.
    factor : int
        Fine pixels per camera pixel.

    Returns
    -------
    dict of str to callable
        ``rse.tif`` (photons) and ``rsp.tif`` on the camera's pixels, ``frc.tif`` (nm) on fine pixels.
    """
    fine = None if pixel_size_nm is None else pixel_size_nm / factor
    writers = {
        "rse.tif": image_writer(checks.agreement.rse, pixel_size_nm=pixel_size_nm),
        "rsp.tif": image_writer(checks.agreement.rsp, pixel_size_nm=pixel_size_nm),
    }
    if checks.resolution is not None:
        writers["frc.tif"] = image_writer(checks.resolution.resolution_nm, pixel_size_nm=fine)
    return writers
