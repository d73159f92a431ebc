"""What the page of report says of gaps."""

from __future__ import annotations

from collections.abc import Mapping

from .evidence_words import GAP_HEAD, gap_rows, in_words
from .page_pictures import data_address
from .page_style import Facts, paragraph, picture, table

__all__ = ["gaps_on_page"]


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
        said += table(GAP_HEAD, gap_rows(facts), "Gaps of the image, by the mean of the frames")
        said += paragraph(
            "The significance compares the frames with every image that has no gap at this place, the neighbourhood fitted "
            f"again. A gap below {facts['threshold']:g} standard deviations may be noise. The significance holds for the PSF "
            "as described."
        )
    if "evidence" in drawn:
        said += picture(
            data_address(drawn["evidence"]),
            "Left: the image with the gaps marked. Right: the finest width that is certain, place by place.",
            "Gaps that the frames confirm (green) and do not confirm (red, dotted), and the finest width that is certain.",
        )
    return said
