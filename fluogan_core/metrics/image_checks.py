"""What the field's usual figures say of an image: does it explain the mean frame, and do two halves of the frames agree?"""

from __future__ import annotations

from dataclasses import dataclass

from .agreement_map import AgreementMap
from .resolution_map import ResolutionMap

__all__ = ["ImageChecks"]


@dataclass(frozen=True, eq=False)
class ImageChecks:
    """Maps of an image that are written beside its evidence.

    Attributes
    ----------
    agreement : AgreementMap
        The image, blurred, against the mean frame: RSE and RSP.
    noise : float
        The RSE that noise alone gives, root mean square over the field.
    resolution : ResolutionMap or None
        Rolling Fourier ring correlation of images of two halves of the frames; None where the field is smaller than a block.
    own_halves : bool
        Whether these two are of the image's own method; else they are fits to the mean of each half.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.metrics import ImageChecks, agreement_map, resolution_map
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (32, 32), 2, backend="numpy")
    >>> x = np.zeros(psi.fine_shape)
    >>> x[10:50, 30] = 1.0
    >>> same = resolution_map(x, x, pixel_size_nm=50)
    >>> checks = ImageChecks(agreement_map(x, psi.forward(x), psi), 0.0, same, own_halves=True)
    >>> round(checks.agreement.whole.rsp, 6), checks.resolution.median_nm is None
    (1.0, True)
    """

    agreement: AgreementMap
    noise: float
    resolution: ResolutionMap | None
    own_halves: bool
