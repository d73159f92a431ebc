"""What the page of report says of gaps, and of the field's usual figures."""

from __future__ import annotations

from collections.abc import Mapping

from .check_words import check_words
from .evidence_words import GAP_HEAD, gap_rows, in_words
from .page_pictures import data_address
from .page_style import Facts, listed, paragraph, picture, table

__all__ = ["checks_on_page", "gaps_on_page"]


def gaps_on_page(facts: Facts | None, drawn: Mapping[str, bytes]) -> str:
    """Table, picture and what they mean; nothing where the gaps were not judged.

    Parameters
    ----------
    facts : dict or None
        From :func:`fluogan_core.io.evidence_words.evidence_facts`.
    drawn : mapping
        The pictures of the page.
    """
    if facts is None:
        return ""
    said = paragraph(in_words(facts))
    if facts["gaps"]:
        rows = gap_rows(facts)
        said += table(GAP_HEAD, rows, "Gaps of the image, and what the frames say of them")
        more = len(facts["gaps"]) - len(rows)
        said += paragraph(
            (f"The {len(rows)} most significant gaps are listed; the other {more} are in report.json. " if more else "")
            + "The significance compares the frames with every image that has no gap at this place, the neighbourhood fitted "
            f"again. A gap below {facts['threshold']:g} standard deviations may be noise. The significance holds for the PSF "
            "as described. If its width is uncertain, fluogan evidence --psf-error 0.05 says what is left if it is off by 5 %."
        )
    if "evidence" in drawn:
        said += picture(
            data_address(drawn["evidence"]),
            "Left: the image with the gaps marked. Right: the finest width that is certain, place by place.",
            "Gaps that the frames confirm (green) and do not confirm (red, dotted), and the finest width that is certain.",
        )
    return said


def checks_on_page(facts: Facts | None, drawn: Mapping[str, bytes]) -> str:
    """RSE, RSP and rolling FRC in words, and their maps; nothing where they were not made.

    Parameters
    ----------
    facts : dict or None
        From :func:`fluogan_core.io.check_words.check_facts`.
    drawn : mapping
        The pictures of the page.
    """
    if facts is None:
        return ""
    said = listed(check_words(facts))
    if "checks" in drawn:
        said += picture(
            data_address(drawn["checks"]),
            "Three maps: correlation with the mean of the frames, error, and resolution by rolling Fourier ring correlation.",
            "Left: correlation of the blurred image with the mean of the frames, in the region around each pixel. Middle: "
            "root mean square of their difference there. Right: resolution of two halves of the frames. Grey: no number, "
            "because there is no structure beyond noise.",
        )
    return said
