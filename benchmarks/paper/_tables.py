"""Tables of the verdicts: per condition what is resolved and what is split, then figures over all distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import fluogan_core as fg

from .._harness import Report
from ._judge import OWN_LIGHT, Verdict, mean
from ._methods import peer_versions
from ._nanopyx import landings, why_no_nanopyx

__all__ = [
    "FEW",
    "MOST",
    "add_field",
    "add_landings",
    "add_resolution",
    "add_targets",
    "against_peers",
    "cell",
    "of",
    "score",
    "share",
    "smallest_resolved",
]

#: Share of the seeds in which a pair must be resolved, and in which its bar may be split, to count.
MOST, FEW = 7 / 8, 1 / 8
#: What the goals are for.
_OURS = "full method"


def of(verdicts: Iterable[Verdict], **wanted: Any) -> list[Verdict]:
    return [v for v in verdicts if all(getattr(v, name) == value for name, value in wanted.items())]


def share(found: Sequence[Verdict]) -> float:
    return sum(v.resolved for v in found) / len(found) if found else 0.0


def score(verdicts: Sequence[Verdict]) -> float | None:
    """Sensitivity less false splits, -1 to 1; None without pairs or without controls."""
    pairs, bars = of(verdicts, control=False), of(verdicts, control=True)
    return share(pairs) - share(bars) if pairs and bars else None


def smallest_resolved(verdicts: Sequence[Verdict]) -> float | None:
    """The smallest distance that is resolved with all larger ones: in 7 of 8 seeds, the bar split in 1 of 8 at most."""
    best = None
    for separation in sorted({v.separation for v in verdicts}, reverse=True):
        here = of(verdicts, separation=separation)
        pairs, bars = of(here, control=False), of(here, control=True)
        if share(pairs) < MOST or share(bars) > FEW:
            break
        best = separation
    return best


def cell(verdicts: Sequence[Verdict]) -> str:
    """Resolved pairs of all, and split bars of all; nothing where none was judged."""
    if not verdicts:
        return ""
    pairs, bars = of(verdicts, control=False), of(verdicts, control=True)
    return f"{sum(v.resolved for v in pairs)}/{len(pairs)}, {sum(v.resolved for v in bars)}/{len(bars)}"


def _in_order(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def add_targets(report: Report, verdicts: Sequence[Verdict]) -> None:
    """What is wanted of the full method, beside what was found."""
    ours = of(verdicts, method=_OURS)
    for condition in _in_order(v.condition for v in ours):
        here = of(ours, condition=condition)
        wanted = [d for d in {v.separation for v in here} if d >= 150]
        found = [of(here, separation=d) for d in wanted]
        sensitivity = min(share(of(part, control=False)) for part in found)
        splits = max(share(of(part, control=True)) for part in found)
        error = _absolute(v.error_nm for v in of(here, control=False, resolved=True))
        report.target(f"{condition}: pairs resolved, the worst distance from 150 nm up", sensitivity, at_least=MOST)
        report.target(f"{condition}: bars split, the worst distance from 150 nm up", splits, at_most=FEW)
        if error is not None:
            report.target(f"{condition}: mean absolute distance error of resolved pairs, nm", error, at_most=10.0)
        for what, gain in against_peers(of(verdicts, condition=condition)).items():
            report.target(f"{condition}: {what}", gain, at_least=0.0)


def against_peers(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """How much better we are than the best peer of each figure, over distances from 150 nm up; what was compared -> gain.

    Each peer is compared over the recordings that both were judged on; the best peer is the one with our smallest gain.
    """
    found = [v for v in verdicts if v.separation >= 150 and v.method not in (OWN_LIGHT, "mean fit")]
    mine = {_recording(v): v for v in of(found, method=_OURS)}
    gains: dict[str, dict[str, float]] = {}
    for peer in _in_order(v.method for v in found if v.method != _OURS):
        theirs = [v for v in of(found, method=peer) if _recording(v) in mine]
        shared = [mine[_recording(v)] for v in theirs]
        for what, figure, sign in (
            ("pairs resolved less bars split, mean over the distances", _mean_score, 1.0),
            ("mean absolute distance error, nm", _distance_error, -1.0),
            ("NRMSE", _misfit, -1.0),
        ):
            us, them = figure(shared), figure(theirs)
            if us is not None and them is not None:
                gains.setdefault(what, {})[peer] = sign * (us - them)
    best = {what: min(of_peers, key=lambda peer: of_peers[peer]) for what, of_peers in gains.items()}
    return {f"{what}: better than the best peer ({peer}) by": gains[what][peer] for what, peer in best.items()}


def _recording(verdict: Verdict) -> tuple[Any, ...]:
    return (verdict.condition, verdict.separation, verdict.control, verdict.seed, verdict.width)


def _mean_score(verdicts: Sequence[Verdict]) -> float | None:
    return mean(score(of(verdicts, separation=d)) for d in {v.separation for v in verdicts})


def _distance_error(verdicts: Sequence[Verdict]) -> float | None:
    pairs = of(verdicts, control=False)
    # a method that resolves almost nothing may be right about the few pairs that it resolves
    return _absolute(v.error_nm for v in of(pairs, resolved=True)) if share(pairs) >= 0.5 else None


def _misfit(verdicts: Sequence[Verdict]) -> float | None:
    return mean(v.nrmse for v in of(verdicts, control=False))


def add_field(report: Report, verdicts: Sequence[Verdict]) -> None:
    """One table: the distances read from a field that holds all groups."""
    rows = []
    separations = sorted({v.separation for v in verdicts}, reverse=True)
    judged = [v for v in verdicts if v.method != OWN_LIGHT]
    for condition, method in _in_order((v.condition, v.method) for v in judged):
        here = {v.separation: v for v in of(judged, condition=condition, method=method)}
        read = [here[d].error_nm for d in separations]
        cells = ["merged" if e is None else f"{d + e:.0f}" for d, e in zip(separations, read)]
        rows.append([condition, method, *cells, _absolute(read), here[separations[0]].seconds])
    report.table(
        "The whole pattern in one field: distances read, nm",
        ["", "", *(f"{d:g} nm" for d in separations), "mean absolute error, nm", "s"],
        rows,
        "Distance of the middles of the two lines wherever two were found.",
    )


def add_resolution(report: Report, verdicts: Sequence[Verdict], missing: dict[str, str]) -> None:
    """A table per condition of what is resolved, and one of how faithful it is."""
    separations = sorted({v.separation for v in verdicts}, reverse=True)
    methods = _in_order(v.method for v in verdicts)
    for condition in _in_order(v.condition for v in verdicts):
        here = of(verdicts, condition=condition)
        judged = _in_order(v.method for v in here)
        rows = [[m, *(cell(of(here, method=m, separation=d)) for d in separations)] for m in judged]
        report.table(
            f"Pairs resolved, bars split: {condition}",
            ["", *(f"{d:g} nm" for d in separations)],
            rows,
            "Pairs resolved by Rayleigh's rule, of all; then uniform bars as wide as the pair that were split in two, of all.",
        )
    rows = []
    for condition in _in_order(v.condition for v in verdicts):
        for method in methods:
            here = of(verdicts, condition=condition, method=method)
            if not here:
                continue
            pairs = of(here, control=False)
            resolved = of(pairs, resolved=True)
            smallest = smallest_resolved(here)
            rows.append(
                [
                    condition,
                    method,
                    "none" if smallest is None else f"{smallest:g} nm",
                    score(of(here, separation=150.0)),
                    score(of(here, separation=120.0)),
                    _absolute(v.error_nm for v in resolved),
                    _absolute(v.peak_error_nm for v in resolved),
                    mean(v.nrmse for v in pairs),
                    mean(v.nrmse_own for v in pairs),
                    mean(v.psnr for v in pairs),
                    _percent(_absolute(v.flux_error for v in pairs)),
                    mean(v.rsp for v in pairs),
                    mean(v.seconds for v in pairs),
                ]
            )
    report.table(
        "How faithful",
        [
            "condition",
            "method",
            "resolved down to",
            "score at 150 nm",
            "score at 120 nm",
            "distance error, nm",
            "of peaks, nm",
            "NRMSE",
            "NRMSE, own light",
            "PSNR, dB",
            "flux error, %",
            "RSP",
            "s",
        ],
        rows,
        "Resolved down to: with all larger distances, in at least 7/8 of the seeds, the bar split in at most 1/8. Score: share "
        "of pairs resolved less share of bars split. Distance errors: mean absolute, of resolved pairs, middles and peaks of "
        "the lines. NRMSE, PSNR: against the lines themselves, sums matched; own light: against that of the molecules drawn, "
        "blurred to 60 nm. RSP: correlation of the blurred result with the mean. "
        "The brightness of SOFI, SRRF and eSRRF is not in photons: they were given the light above the background."
        + peer_versions(methods)
        + "".join(f" Left out: {name} ({reason})." for name, reason in missing.items()),
    )


def add_landings(report: Report, psi: fg.Psi) -> None:
    """One table: how far from its place a point lands where a peer's image is moved back; none without nanopyx."""
    if why_no_nanopyx():
        return
    report.table(
        "Where a point lands in nanopyx's images, before they are moved back",
        ["", "fine pixels down and right"],
        [[name, off] for name, off in landings(psi).items()],
        f"L = {psi.factor}; mean of nine places within a camera pixel. Less than a tenth is left as it is.",
    )


def _absolute(values: Iterable[float | None]) -> float | None:
    return mean(None if v is None else abs(v) for v in values)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value
