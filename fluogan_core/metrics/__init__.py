"""How good is a reconstruction: distances to a known truth, lines, resolution, and what it predicts of frames.

Where a figure does not exist (no pair is found, a correlation never crosses its threshold) the report says why; nothing here
returns NaN.
"""

from .images import BlurredAgreement, blurred_agreement, nrmse, psnr
from .lines import RAYLEIGH_DIP, LineReport, PairReport, find_lines, line_fluxes, line_profile, pair_report
from .prediction import HeldOutScore, held_out_score
from .resolution import RingCorrelation, fourier_ring_correlation

__all__ = [
    "RAYLEIGH_DIP",
    "BlurredAgreement",
    "HeldOutScore",
    "LineReport",
    "PairReport",
    "RingCorrelation",
    "blurred_agreement",
    "find_lines",
    "fourier_ring_correlation",
    "held_out_score",
    "line_fluxes",
    "line_profile",
    "nrmse",
    "pair_report",
    "psnr",
]
