"""The remarks of a run in the words of a microscopist, each with what to do next."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ADVICE", "Advice", "advice_for"]


class Advice(NamedTuple):
    """What a remark means and what to do.

    Attributes
    ----------
    phrase : str
        Words of the remark by which it is known.
    meaning : str
    next_step : str
    fine : bool
        Whether all is as it should be.
    """

    phrase: str
    meaning: str
    next_step: str
    fine: bool = False


#: The first row whose phrase is in the remark applies.
ADVICE = (
    # frames and file
    Advice(
        "frames left out because they differ",
        "Some frames are not like the others and were not used.",
        "Look at these frames in the stack. If many are bad, find the cause and record again.",
    ),
    Advice(
        "variances are rough", "There are few frames, so all numbers below are uncertain.", "Record several hundred frames."
    ),
    Advice(
        "header promises",
        "The file says that it has more or fewer frames than were found in it.",
        "Check that the recording was not stopped early and that the file was copied completely.",
    ),
    Advice(
        "belong to no page",
        "The file may hold frames that cannot be reached.",
        "If frames are missing, save the stack again from the program that recorded it.",
    ),
    Advice(
        "were appended",
        "The file consists of several parts, which were joined in their order.",
        "Check that all parts are of the same field and the same recording.",
    ),
    Advice(
        "left out of the file",
        "The file holds other images beside the stack, which were not used.",
        "Check that the right images were used. If not, save the wanted ones as a stack of their own.",
    ),
    Advice(
        "they are taken as frames",
        "The file calls its frames channels.",
        "Check that they are frames of one colour. If they are colours, save one of them as a stack of its own.",
    ),
    Advice(
        "every other frame is darker",
        "Bright and dark frames take turns, as with two colours or two lamps.",
        "Use the even or the odd frames only (--frames 0::2 or 1::2).",
    ),
    Advice(
        "show different images",
        "Frames of two or more kinds take turns, as with two colours or two lamps.",
        "Use the frames of one kind only, for example --frames 0::2 for every second one from the first on.",
    ),
    # the sample and the light
    Advice(
        "the sample moved by about",
        "The sample drifted, so the image is blurred along the direction of the drift.",
        "Repeat the run with --drift auto, which follows the sample, or use fewer frames (--frames).",
    ),
    Advice(
        "drift: the sample moved by",
        "The sample moved, and the image follows it: it shows the part of the field that all frames share.",
        "Look at its path on this page. Beads or a fixed structure must move as it says; if not, leave --drift out.",
    ),
    Advice(
        "pixels, as ",
        "The image follows the drift that you gave.",
        "Check that the table is of this recording. The path is drawn on this page.",
    ),
    Advice(
        "is not above the",
        "At the end of the recording there is no light left, or the offset is too high.",
        "Use the first part of the recording only (--frames), or measure the offset with the shutter closed.",
    ),
    Advice(
        "bleaching: the light of the sample falls",
        "The molecules bleach. The image is the mean over the recording, and the loss of light is not taken for blinking.",
        "Nothing, if all parts of the sample bleach alike. If in doubt, reconstruct the first and the second half (--frames), "
        "and compare the two images.",
    ),
    Advice(
        "the light above the offset",
        "The sample became darker or brighter during the recording, by bleaching or by drift.",
        "Reconstruct the first and the second half (--frames) and compare the two images.",
    ),
    Advice(
        "slow fluctuation",
        "Molecules stay on for several frames, or the sample moves. Such frames repeat each other in part.",
        "Play the stack and look for motion. If nothing moves, read all errors on this page as lower limits; a longer "
        "recording helps more than a faster one.",
    ),
    Advice(
        "the illumination flickers",
        "The lamp or the laser is not steady.",
        "Let it warm up, or check its power supply. Small flicker does not change the image.",
    ),
    # the blur
    Advice(
        "does not fall with distance as this PSF predicts",
        "The blur of the microscope differs from the PSF that was given, or light comes from out of focus.",
        "Check wavelength, aperture and pixel size. Best is a PSF measured on beads (--psf).",
    ),
    Advice(
        "microscopes sample it by two to four",
        "The blur is smaller than a camera pixel, which is unusual.",
        "Check the pixel size: it must be in nanometres in the plane of the sample, not of the camera chip.",
    ),
    Advice(
        "(given, not measured)",
        "You gave the width of the PSF, so it was not checked.",
        "Leave --psf-width out to have it measured.",
    ),
    Advice(
        "shape of the PSF: as described",
        "The blinking shows no clear aberrations.",
        "Nothing: this is as it should be.",
        fine=True,
    ),
    Advice(
        "; this shape is used",
        "The blinking shows that the PSF is aberrated, and its shape was corrected.",
        "Check the correction collar, the cover slip and the immersion. If your PSF is of beads, repeat the run with "
        "--psf-width 1 and compare.",
    ),
    Advice(
        "of the change is used, because",
        "The blinking hints at an aberrated PSF, and a part of that was corrected.",
        "Best is a PSF measured on beads (--psf). Repeat the run with --psf-width 1 and compare.",
    ),
    Advice(
        "; this change is not taken, because",
        "The blinking does not fit the shape of the PSF, but something else than aberrations may be the reason.",
        "Look for motion of the sample and for light out of focus. Best is a PSF measured on beads (--psf).",
    ),
    Advice(
        "shape of the PSF: the flicker does not determine it",
        "Whether the PSF has aberrations could not be checked.",
        "If the image matters much, measure the PSF on beads (--psf).",
    ),
    Advice(
        "width of the PSF: as described",
        "The blur that the blinking shows agrees with the PSF that was given.",
        "Nothing: this is as it should be.",
        fine=True,
    ),
    Advice(
        "; this width is used",
        "The blinking shows a blur that is wider or narrower than the PSF that was given, and it was corrected.",
        "Check wavelength, aperture and focus. If your PSF is of beads, repeat the run with --psf-width 1 and compare.",
    ),
    Advice(
        "between the two, because",
        "The blinking hints at a blur that is wider or narrower than the PSF that was given, and a part of that was corrected.",
        "Check wavelength, aperture and focus. Repeat the run with --psf-width 1 and compare.",
    ),
    Advice(
        "; it speaks against the width that was described",
        "The blinking speaks against the width of the PSF that you gave, but it does not say precisely which one is right. "
        "The PSF was used as you gave it.",
        "Check wavelength, aperture, pixel size and focus. Best is a PSF measured on beads (--psf). More frames tell more.",
    ),
    Advice(
        "the PSF is used as described",
        "The width of the blur could not be checked on these frames, so the PSF was used as you gave it.",
        "Check wavelength, aperture and pixel size yourself, or give a PSF measured on beads (--psf).",
    ),
    # the camera
    Advice(
        "offset and read noise cannot be told apart",
        "The frames alone cannot tell the dark level of the camera from its read noise, so both are uncertain.",
        "Record some frames with the shutter closed and give their mean with --offset.",
    ),
    Advice(
        "variance is not proportional to light",
        "The noise does not grow with the light as it does in a linear camera.",
        "Switch off processing in the camera (denoising, gamma, compression), and check that the sample does not move.",
    ),
    Advice(
        "saturation:",
        "Some pixels reached the largest value that the camera can write.",
        "Record with less light, a shorter exposure or a lower gain.",
    ),
    Advice(
        "pixels left out",
        "Some camera pixels are broken (hot, dead or stuck) and were not used.",
        "Nothing, if they are few. Do not trust fine structure at these places.",
    ),
    Advice(
        "no pixel is left out",
        "Many pixels do not fit light through this PSF.",
        "Crop the stack to its valid part (--roi), and check the PSF and the pixel size.",
    ),
    Advice(
        "times noisier than its fluctuations explain",
        "The pixels of the camera are not equal. This makes a grain that more frames do not remove.",
        "Measure offset and gain of each pixel and give them (--offset-map, --gain-map). Do not trust single camera pixels.",
    ),
    Advice(
        "from even ones (positive",
        "Odd and even rows of a scan are shifted against each other.",
        "Nothing: they were moved back. Correct the phase of the bidirectional scan at the microscope for the next recording.",
    ),
    Advice(
        "noise common to a",
        "All pixels of a row or a column fluctuate together, which is noise of the camera.",
        "Do not trust faint straight lines along rows or columns. Ask the maker of the camera if it is strong.",
    ),
    Advice(
        "neighbouring pixels fluctuate together",
        "The sample flickers, and this was taken for camera noise because no PSF was given.",
        "Give the PSF (--fwhm-nm, or --wavelength-nm with --na).",
    ),
    Advice(
        "was given, but the darkest pixels",
        "The offset that you gave does not fit these frames.",
        "Measure it with the shutter closed, or leave --offset out to have it estimated.",
    ),
    Advice(
        "was given, but the stack suggests",
        "The gain that you gave does not fit these frames.",
        "Check its unit, which is counts per photon, or leave --gain out to have it estimated.",
    ),
    Advice(
        "photons per emission:",
        "The frames show too little blinking to say how bright one molecule is. The numbers of emissions in x.tif are then "
        "relative; light in photons is not concerned.",
        "Compare numbers of emissions within this image only. More blinking or more frames make them absolute.",
    ),
)

_UNKNOWN = Advice(
    "", "The run noticed something unusual.", "Read the remark below, and compare the images of two halves of the frames."
)


def advice_for(remark: str) -> Advice:
    """Return the advice for a remark of :class:`~fluogan_core.Calibration`, an estimate or a stack."""
    return next((advice for advice in ADVICE if advice.phrase in remark), _UNKNOWN)
