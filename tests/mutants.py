"""Mutation score of one module: how many small changes of its code its tests notice.

    python tests/mutants.py FILE TESTS [TESTS ...]

FILE is a module of the core, TESTS are files of tests.  cosmic-ray changes one place at a time in a copy of the tree; the
working tree is not touched.  Prints every change that survives, as a diff, and the score; exit status 1 if any survives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Seconds after which a changed program is taken to hang.
LONGEST = 300.0


def copied(folder: Path) -> None:
    """What the tests of a core module need: the package with its kernels inside, tests and benchmarks."""
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    shutil.copytree(ROOT / "fluogan_core", folder / "fluogan_core", ignore=ignore)
    shutil.copytree(ROOT / "kernels", folder / "fluogan_core" / "kernels", ignore=ignore)
    for name in ("tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)


def main(module: str, tests: list[str]) -> int:
    """Change, test, report."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = Path(place)
        copied(folder)
        command = f"{sys.executable} -m pytest -q -x -p no:xdist -p no:cacheprovider {' '.join(tests)}"
        (folder / "mutants.toml").write_text(
            f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {LONGEST}\nexcluded-modules = []\n'
            f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
        )

        def ray(*words: str) -> str:
            return subprocess.run(
                ["cosmic-ray", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
            ).stdout

        ray("baseline", "mutants.toml")  # the tests pass as they are
        ray("init", "mutants.toml", "mutants.sqlite")
        ray("exec", "mutants.toml", "mutants.sqlite")
        outcomes = [json.loads(line) for line in ray("dump", "mutants.sqlite").splitlines()]
    tried = [(work, result) for work, result in outcomes if result is not None]
    survived = [(work, result) for work, result in tried if result["test_outcome"] == "survived"]
    for work, result in survived:
        change = work["mutations"][0]
        print(f"{change['operator_name']} at line {change['start_pos'][0]} of {module} survives:\n{result['diff']}\n")
    print(f"{module}: {len(tried) - len(survived)} of {len(tried)} changes noticed")
    return bool(survived)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
