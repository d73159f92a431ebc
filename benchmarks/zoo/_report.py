"""Tables of a run: what was wanted, where along each axis the library gains and loses, the peers, and the worst scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .._harness import Options, Report
from ._choices import BEYOND_NOISE, add_choices, kinetics_of
from ._peers import PEERS, left_out
from ._plan import AXES, BACKGROUNDS, CAMERAS, Scene
from ._run import DEFAULT, FULL, MEAN_FIT, Document

__all__ = ["best_single", "report", "worst"]

#: A structure's light is right within this fraction, or within so many standard errors of the mean frame.
_LIGHT, _ERRORS = 0.1, 3.0
#: Photons in the brightest pixel from which on a pair counts as bright, and the distance from which on it is asked for.
_BRIGHT, _FROM_NM = 100.0, 180.0
_SHOWN = 10


def _ours(done: Document, which: str = FULL) -> Document:
    found: Document = done["library"]["verdicts"][which]
    return found


def best_single(done: Document, measure: str = "nrmse", blur: str = "60") -> tuple[float, str]:
    """The best of the peers' published settings, and whose it is."""
    found = {name: peer["published"][measure][blur] for name, peer in done["peers"].items()}
    name = (min if measure == "nrmse" else max)(found, key=found.__getitem__)
    return found[name], name


def _best_stop(done: Document, measure: str = "nrmse", blur: str = "60") -> float:
    """The best of all peers' settings, chosen by the truth."""
    found = [peer["best"][f"{measure} {blur}"][0] for peer in done["peers"].values()]
    return float(min(found) if measure == "nrmse" else max(found))


def _ratio(done: Document) -> float:
    """NRMSE at 60 nm over that of the best single setting."""
    return float(_ours(done)["nrmse"]["60"] / best_single(done)[0])


def _over_mean_fit(done: Document) -> float:
    return float(_ours(done)["nrmse"]["60"] / _ours(done, MEAN_FIT)["nrmse"]["60"])


def _as_good(done: Document, measure: str = "nrmse", blur: str = "60") -> bool:
    mine, other = _ours(done)[measure][blur], best_single(done, measure, blur)[0]
    return bool(mine <= other if measure == "nrmse" else mine >= other)


def _beats_stops(done: Document, measure: str = "nrmse", blur: str = "60") -> bool:
    mine, other = _ours(done)[measure][blur], _best_stop(done, measure, blur)
    return bool(mine < other if measure == "nrmse" else mine > other)


def right_light(verdict: Document) -> list[bool]:
    """Per structure whether its light is right."""
    return [abs(found - truth) <= max(_LIGHT * truth, _ERRORS * error) for truth, found, error in verdict["light"]]


def worst(done: Sequence[Document], count: int = _SHOWN) -> list[Document]:
    """The scenes that are farthest behind the best single setting."""
    return sorted(done, key=_ratio, reverse=True)[:count]


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")


def _of(count: int, total: int) -> str:
    return f"{count} of {total}" if total else "–"


def report(done: Sequence[Document], options: Options, name: str, of: int) -> Report:
    """Everything that the scenes say.

    Parameters
    ----------
    done : sequence of dict
        Documents of the scenes.
    options : Options
    name : str
        Of the study.
    of : int
        Scenes of the whole plan.
    """
    if not done:
        raise ValueError("no scene is done: there is nothing to report")
    made = Report(name, options)
    _add_targets(made, done)
    _add_summary(made, done, of)
    _add_axes(made, done)
    _add_peers(made, done)
    _add_lines(made, done)
    _add_cameras(made, done)
    _add_worst(made, done)
    if all(DEFAULT in one["library"]["verdicts"] for one in done):
        add_choices(made, done)
    return made


def _add_targets(made: Report, done: Sequence[Document]) -> None:
    for measure, word in (("nrmse", "NRMSE"), ("correlation", "correlation")):
        good = _share(_as_good(one, measure) for one in done)
        made.target(f"{word} at 60 nm at least as good as the best single setting of any peer, share", good, at_least=0.9)
        best = _share(_beats_stops(one, measure) for one in done)
        made.target(f"{word} at 60 nm better than the best stop of every peer, share", best, at_least=0.5)
    made.target("NRMSE at 60 nm over the best single setting's, worst scene", max(map(_ratio, done)), at_most=1.15)
    behind = _share(_over_mean_fit(one) > BEYOND_NOISE for one in done)
    made.target(f"full method more than {BEYOND_NOISE - 1:.0%} behind its mean fit, share", behind, at_most=0.0)
    right = [right_light(_ours(one)) for one in done]
    made.target("structures with the right light, share", _share(ok for scene in right for ok in scene), at_least=0.95)
    made.target("scenes in which every structure has the right light, share", _share(map(all, right)), at_least=0.95)
    for background in BACKGROUNDS:
        bars, pairs = (_lines(done, background, structure) for structure in ("bar", "pair"))
        if bars:
            split = _share(bool(_ours(one)["two"]) for one in bars)
            made.target(f"{background} background: bars split, of {len(bars)}, share", split, at_most=1 / 8)
        if pairs := [one for one in pairs if _is_bright(one)]:
            resolved = _share(bool(_ours(one)["two"]) for one in pairs)
            made.target(f"{background} background: bright pairs from 180 nm, of {len(pairs)}, share", resolved, at_least=7 / 8)


def _lines(done: Sequence[Document], background: str, structure: str) -> list[Document]:
    return [one for one in done if (one["scene"]["background"], one["scene"]["structure"]) == (background, structure)]


def _is_bright(done: Document) -> bool:
    return bool(done["brightest"] >= _BRIGHT and done["scene"]["separation_nm"] >= _FROM_NM)


def _add_summary(made: Report, done: Sequence[Document], of: int) -> None:
    revisions = Counter(str(one["revision"]) for one in done)
    said = ", ".join(f"{count} at {revision}" for revision, count in revisions.items())
    seconds = [one["library"]["seconds"]["cpu"] for one in done]
    missing = "".join(f" Left out: {name} ({reason})." for name, reason in left_out().items())
    refused = sum(bool(one["library"]["refused"]) for one in done)
    made.table(
        "What ran",
        ["scenes", "of", "the library's revision", "its processor time per scene, median and most, s", "camera refused"],
        [[len(done), of, said, f"{np.median(seconds):.1f}, {max(seconds):.0f}", refused]],
        "Where the gain is refused, the scene goes on with the true camera, as the message asks." + missing,
    )


def _row(done: Sequence[Document]) -> list[Any]:
    ratios = [_ratio(one) for one in done]
    right = [ok for one in done for ok in right_light(_ours(one))]
    return [
        len(done),
        f"{np.median(ratios):.2f}, {max(ratios):.2f}",
        f"{_share(map(_as_good, done)):.0%}",
        f"{_share(_as_good(one, blur='100') for one in done):.0%}",
        f"{_share(_as_good(one, 'correlation') for one in done):.0%}",
        f"{_share(map(_beats_stops, done)):.0%}",
        f"{np.median([_over_mean_fit(one) for one in done]):.2f}, {max(map(_over_mean_fit, done)):.2f}",
        _of(sum(right), len(right)),
    ]


_COLUMNS = [
    "scenes",
    "NRMSE at 60 nm over the best single setting's: median, worst",
    "as good, 60 nm",
    "as good, 100 nm",
    "correlation as good",
    "better than every best stop",
    "NRMSE over the mean fit's: median, worst",
    "structures with the right light",
]


def _add_axes(made: Report, done: Sequence[Document]) -> None:
    made.table("All scenes", _COLUMNS, [_row(done)])
    for axis, place in AXES.items():
        groups = _grouped(done, place)
        made.table(f"By {axis}", ["", *_COLUMNS], [[value, *_row(group)] for value, group in groups.items()])


def _grouped(done: Sequence[Document], place: Callable[[Scene, float], str]) -> dict[str, list[Document]]:
    """Scenes by their place on an axis; intervals in their order, words by the alphabet."""
    groups: dict[str, list[Document]] = {}
    for one in sorted(done, key=lambda one: one["brightest"]):
        groups.setdefault(place(Scene.of(one["scene"]), one["brightest"]), []).append(one)
    return dict(sorted(groups.items(), key=lambda item: _order(item[0])))


def _order(words: str) -> tuple[str, float, str]:
    """Sort key: "below 10" before "10 to 100" before "100 and more"."""
    before, _, _ = words.partition("below")
    if "below" in words:
        return before, -1.0, words
    numbers = [word for word in words.split() if word.replace(".", "", 1).isdigit()]
    return (words.partition(numbers[0])[0], float(numbers[0]), words) if numbers else (words, 0.0, words)


def _add_peers(made: Report, done: Sequence[Document]) -> None:
    rows = []
    for name in (FULL, MEAN_FIT):
        found = [_ours(one, name) for one in done]
        rows.append([name, "its defaults", *_medians(found), "", "", *_light(found), *_two(done, found)])
    wins = Counter(best_single(one)[1] for one in done)
    for name in PEERS:
        if name not in done[0]["peers"]:
            continue
        found = [one["peers"][name]["published"] for one in done]
        best = np.median([one["peers"][name]["best"]["nrmse 60"][0] for one in done])
        setting = PEERS[name].published or "no settings"
        rows.append([name, setting, *_medians(found), f"{best:.3f}", wins[name], *_light(found), *_two(done, found)])
    made.table(
        "The methods",
        [
            "",
            "setting",
            "NRMSE 60 nm",
            "NRMSE 100 nm",
            "correlation 60 nm",
            "correlation 100 nm",
            "NRMSE 60 nm, best stop",
            "best peer in",
            "structures with the right light",
            "bright pairs resolved",
            "bars split",
        ],
        rows,
        "Medians over the scenes. Peers get the frames in photons by the true camera.",
    )


def _medians(found: Sequence[Document]) -> list[str]:
    return [f"{np.median([one[m][b] for one in found]):.3f}" for m in ("nrmse", "correlation") for b in ("60", "100")]


def _light(found: Sequence[Document]) -> list[str]:
    right = [ok for one in found for ok in right_light(one)]
    return [_of(sum(right), len(right))]


def _two(done: Sequence[Document], found: Sequence[Document]) -> list[str]:
    """Bright pairs resolved and bars split."""
    paired = list(zip(done, found))
    pairs = [bool(v["two"]) for one, v in paired if one["scene"]["structure"] == "pair" and _is_bright(one)]
    bars = [bool(v["two"]) for one, v in paired if one["scene"]["structure"] == "bar"]
    return [_of(sum(pairs), len(pairs)), _of(sum(bars), len(bars))]


def _add_lines(made: Report, done: Sequence[Document]) -> None:
    rows = []
    for background in BACKGROUNDS:
        bars, pairs = (_lines(done, background, structure) for structure in ("bar", "pair"))
        bright = [one for one in pairs if _is_bright(one)]
        row: list[Any] = [background]
        for group in (bright, pairs, bars):
            row += [_of(sum(bool(_ours(one, which)["two"]) for one in group), len(group)) for which in (FULL, MEAN_FIT)]
        rows.append(row)
    made.table(
        "Pairs and bars by background",
        ["", "bright pairs resolved", "mean fit", "all pairs resolved", "mean fit", "bars split", "mean fit"],
        rows,
        f"Bright: {_BRIGHT:g} photons in the brightest pixel, {_FROM_NM:g} nm apart or more. Pairs are 150 to 390 nm apart, "
        "bars 250 to 490 nm wide.",
    )


def _add_cameras(made: Report, done: Sequence[Document]) -> None:
    rows = []
    for camera in CAMERAS:
        here = [one for one in done if one["scene"]["camera"] == camera and not one["scene"]["camera_known"]]
        read = [one for one in here if not one["library"]["refused"]]
        gains = np.array([one["library"]["gain"] for one in read]).reshape(-1, 2)
        right = np.abs(gains[:, 0] - 1) <= 3 * gains[:, 1]
        middle = f"{np.median(gains[:, 0]):.2f}, {gains[:, 0].min():.2f} to {gains[:, 0].max():.2f}" if len(read) else "–"
        rows.append([camera, len(here), len(here) - len(read), middle, _of(int(right.sum()), len(read))])
    made.table(
        "The gain from the stack",
        ["", "scenes", "refused", "found over true: median, range", "within three stated errors"],
        rows,
        "Amplification of an EM-CCD doubles the variance of the photons: the gain that explains it is twice the true one.",
    )


def _add_worst(made: Report, done: Sequence[Document]) -> None:
    rows = []
    for one in worst(done):
        s, mine = one["scene"], _ours(one)["nrmse"]["60"]
        other, who = best_single(one)
        rows.append(
            [
                f"{s['seed']}-{s['number']:04d}",
                s["structure"],
                f"{s['background']} {s['level']:g}",
                f"{one['brightest']:.3g}",
                kinetics_of(s),
                s["frames"],
                f"{s['psf']}, {s['fwhm_nm'] / s['pixel_nm']:.1f} px",
                s["camera"],
                f"{mine:.3f}",
                f"{_ours(one, MEAN_FIT)['nrmse']['60']:.3f}",
                f"{other:.3f} {who}",
            ]
        )
    made.table(
        "The ten worst",
        [
            "scene",
            "structure",
            "background",
            "light",
            "kinetics",
            "frames",
            "PSF",
            "camera",
            "NRMSE 60 nm",
            "mean fit",
            "best single setting",
        ],
        rows,
        "Behind the best single setting by most. Light and background in photons per camera pixel.",
    )
