"""How good is a reconstruction: distances to a known truth, lines, resolution, and what it predicts of frames.

Where a figure does not exist (no pair is found, a correlation never crosses its threshold) the report says why; only maps
hold NaN, at the places where there is none.
"""

from .agreement_map import AgreementMap, agreement_map
from .image_checks import ImageChecks
from .images import BlurredAgreement, blurred_agreement, nrmse, psnr
from .lines import RAYLEIGH_DIP, LineReport, PairReport, find_lines, line_fluxes, line_profile, pair_report
from .prediction import HeldOutScore, held_out_score
from .resolution import RingCorrelation, fourier_ring_correlation
from .resolution_map import ResolutionMap, resolution_map

__all__ = [
    "RAYLEIGH_DIP",
    "AgreementMap",
    "BlurredAgreement",
    "HeldOutScore",
    "ImageChecks",
    "LineReport",
    "PairReport",
    "ResolutionMap",
    "RingCorrelation",
    "agreement_map",
    "blurred_agreement",
    "find_lines",
    "fourier_ring_correlation",
    "held_out_score",
    "line_fluxes",
    "line_profile",
    "nrmse",
    "pair_report",
    "psnr",
    "resolution_map",
]
