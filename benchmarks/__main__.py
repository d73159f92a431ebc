"""Run the benchmarks, each in a process of its own, and render the tables: ``python -m benchmarks [names] [--quick]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import LONG, QUESTIONS
from ._harness import RESULTS, switches
from ._tables import render

ROOT = Path(__file__).parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 1 if a benchmark failed."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["differences"] and any(word.startswith("--critic") for word in words):
        from . import own_critic

        return own_critic.main(words[1:])
    parser = switches("python -m benchmarks", "Measure, write JSON files and render the tables of docs/.")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(f"  {name:12} {question}" for name, question in QUESTIONS.items())
    parser.add_argument("names", nargs="*", help=f"which, of {', '.join(QUESTIONS)}; by default all but {', '.join(LONG)}")
    parser.add_argument("--docs", type=Path, help="folder of the documents whose tables are rendered")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in QUESTIONS]
    if unknown:
        parser.error(f"there is no benchmark called {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    results, docs = arguments.results, arguments.docs
    if arguments.quick:  # its figures mean nothing: they replace none
        results = results or Path(tempfile.mkdtemp(prefix="benchmarks-"))
    else:
        # figures that are kept elsewhere are not those of this tree's documents
        results, docs = results or RESULTS, docs or (None if results else ROOT / "docs")
    failed, started = [], time.perf_counter()
    for name in arguments.names or [name for name in QUESTIONS if name not in LONG]:
        words = [sys.executable, "-m", f"benchmarks.bench_{name}", "--results", str(results.resolve())]
        words += [
            "--backend",
            arguments.backend,
            "--seed",
            str(arguments.seed),
            *(["--quick"] if arguments.quick else []),
        ]
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if docs is not None:
        for path in render(results, docs):
            print(f"tables rendered in {path.name}")
    print(f"{time.perf_counter() - started:.0f} s, results in {results}" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
