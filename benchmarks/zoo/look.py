"""One scene in words: ``python -m benchmarks.zoo.look 1-0019 [--picture scene.png]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ._picture import sheet
from ._plan import draw_scene
from ._report import right_light
from ._run import Document, run_scene

__all__ = ["main", "words"]


def words(done: Document) -> str:
    """Calibration, end, and every method's verdict on a scene."""
    ours = done["library"]
    lines = [f"{name}: {value}" for name, value in done["scene"].items()]
    lines += [f"brightest pixel: {done['brightest']:.4g} photons, {done['signal_to_noise']:.3g} times its noise"]
    gain, kappa = (
        f"{value:.4g} +- {'?' if error is None else f'{error:.2g}'}" for value, error in (ours["gain"], ours["kappa"])
    )
    lines += [f"gain found over true: {gain}; photons per emission: {kappa}; width of the PSF: {ours['psf_width']:.3g}"]
    lines += [f"refused: {ours['refused']}"] if ours["refused"] else []
    lines += [f"  {remark}" for remark in ours["remarks"]] + [ours["stop"], ""]
    lines += [f"{'':20s} NRMSE 60  100   correlation 60  100   two   light found over true (* wrong)"]
    found = ours["verdicts"] | {name: peer["published"] for name, peer in done["peers"].items()}
    for name, verdict in found.items():
        right = right_light(verdict)
        light = " ".join(f"{f / t:.2f}{'' if ok else '*'}" for (t, f, _), ok in zip(verdict["light"], right))
        errors, correlations = (" ".join(f"{value:5.3f}" for value in verdict[m].values()) for m in ("nrmse", "correlation"))
        lines.append(f"{name:20s} {errors}     {correlations}    {verdict['two']!s:5s} {light}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo.look", description=__doc__)
    parser.add_argument("scene", help="seed and number, such as 1-0019")
    parser.add_argument("--picture", type=Path, help="draw it into this file")
    arguments = parser.parse_args(argv)
    seed, _, number = arguments.scene.partition("-")
    if not (seed.isdigit() and number.isdigit()):
        parser.error(f"a scene is SEED-NUMBER, such as 1-0019, got {arguments.scene}")
    done, images = run_scene(draw_scene(int(seed), int(number)))
    print(words(done))
    if arguments.picture is not None:
        sheet([done], [images], arguments.picture)


if __name__ == "__main__":
    main()
