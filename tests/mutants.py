"""Mutation score of one module: how many small changes of its code its tests notice.

    python tests/mutants.py [--sample N] [--seed S] [--again PATH] [--json PATH] FILE TESTS [TESTS ...]

FILE is a module of the core, TESTS are files of tests, or whatever else pytest takes.  cosmic-ray changes one place at a time
in a copy of the tree; the working tree is not touched.  Annotations are left alone, since nothing evaluates them, and nothing
becomes an operator of bits.  Prints every change that survives and the score; exit status 1 if any survives.

With --sample N that many changes are drawn at random: places first, so that no place has two changes before each has one.
With --again only the changes of a JSON list of those that survived before are tried.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import functools
import importlib
import itertools
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Seconds after which a changed program is taken to hang: of its own, in units of what the tests take, and by the clock.
SPARE, PER_BASELINE, LONGEST = 10.0, 5.0, 600.0
#: Operators that floats and arrays of them do not have: such a change fails wherever it runs, and says nothing of a test.
OF_BITS = ("LShift", "RShift", "BitOr", "BitAnd", "BitXor", "Invert")


def copied(folder: Path) -> None:
    """What the tests of a core module need, with what is compiled of it: the package with its kernels, tests, benchmarks."""
    shutil.copytree(ROOT / "fluogan_core", folder / "fluogan_core")
    shutil.copytree(ROOT / "kernels", folder / "fluogan_core" / "kernels")
    for name in ("tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)


def annotations(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where they begin and end."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if found is not None:
                yield (found.lineno, found.col_offset), (found.end_lineno, found.end_col_offset)


def changes(source: str) -> list[dict[str, Any]]:
    """All changes of a module's code: the operator, its place among those of the operator, line and column."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    ignored, nodes, found = list(annotations(ast.parse(source))), list(ast_nodes(get_ast(source))), []
    for name in operator_names():
        kind = get_operator(name)
        if not kind.arguments() and not name.endswith(OF_BITS):
            places = (place for node in nodes for place in kind().mutation_positions(node))
            for number, (start, _end) in enumerate(places):
                if not any(first <= start < last for first, last in ignored):
                    found.append({"operator": name, "number": number, "place": start})
    return found


def drawn(found: list[dict[str, Any]], seed: int) -> Iterator[dict[str, Any]]:
    """A random one of each place, in random order, and so on."""
    rng = random.Random(seed)
    places: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for change in found:
        places.setdefault(change["place"], []).append(change)
    for here in places.values():
        rng.shuffle(here)
    order = list(places.values())
    rng.shuffle(order)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*order))
    return (change for change in turns if change is not None)


def described(source: str, changed: str) -> str:
    """The lines that differ, as they were and as they are."""
    lines = list(difflib.unified_diff(source.split("\n"), changed.split("\n"), lineterm="", n=0))[3:]
    return " → ".join(" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")


def written(source: str, found: Iterable[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """The first so many that are distinct, with the changed code."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    seen, out = {source}, []
    for change in found:
        if len(out) == count:
            break
        code = mutate_code(source, get_operator(change["operator"])(), change["number"])
        if code is not None and code not in seen:
            seen.add(code)
            out.append({**change, "code": code, "change": described(source, code)})
    return out


def alone(work: Callable[[], int], output: Path | None, limit: float) -> tuple[int, float]:
    """Run in a process of its own, which has what this one has imported: exit status, -1 for none, and seconds of CPU."""
    deadline = time.monotonic() + (LONGEST if math.isfinite(limit) else math.inf)
    child = os.fork()
    if not child:
        status = 3
        try:
            os.setpgrp()  # and what it starts ends with it
            if math.isfinite(limit):
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))
            with (Path(os.devnull) if output is None else output).open("w") as stream:
                os.dup2(stream.fileno(), 1)
                if output is not None:
                    os.dup2(stream.fileno(), 2)
            status = work()
        finally:
            os._exit(status)
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1), used.ru_utime + used.ru_stime
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)


def run_tests(tests: list[str], *more: str) -> int:
    """Of pytest."""
    import pytest

    return int(pytest.main(["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *more, *tests]))


def baseline(tests: list[str], loaded: Path) -> int:
    """The tests as they are; compiles, and writes which modules of others are loaded."""
    status = run_tests(tests)
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    others = [name for name, file in files.items() if file and "site-packages" in file and "pytest" not in name]
    loaded.write_text("\n".join(others))
    return status


def put_in_place(name: str, code: str) -> None:
    """Run a module's changed code over the loaded one, and hand on what other modules have taken of it."""
    module = sys.modules[name]
    kept = dict(vars(module))  # or another object might get the identity of one of them
    before = {id(value): key for key, value in kept.items()}
    exec(compile(code, str(module.__file__), "exec"), vars(module))
    here = str(Path.cwd())
    for other in [other for other in list(sys.modules.values()) if str(getattr(other, "__file__", "")).startswith(here)]:
        for key, value in list(vars(other).items()):
            taken = before.get(id(value))
            if taken is not None and (key == taken or getattr(value, "__module__", None) == name):
                setattr(other, key, vars(module).get(taken))


def changed(name: str, code: str, tests: list[str]) -> int:
    """The tests after a change of a module that is loaded."""
    put_in_place(name, code)
    return run_tests(tests)


def quick(module: str, tests: list[str], tried: list[dict[str, Any]], output: Path, limit: float, found: Path) -> int:
    """Which changes are noticed where all modules are loaded already, and one is changed in place: a list of statuses."""
    sys.dont_write_bytecode = True
    run_tests(tests, "--collect-only")
    name, statuses = module.removesuffix(".py").replace("/", "."), []
    if name in sys.modules:
        for number, change in enumerate(tried, 1):
            status, seconds = alone(functools.partial(changed, name, change["code"], tests), output, limit)
            statuses.append(status)
            print(f"{number} of {len(tried)}: {seconds:.1f} s, {status}", file=sys.stderr, flush=True)
            found.write_text(json.dumps(statuses))
    return 0


def outcomes(
    module: str, tests: list[str], sample: int | None, seed: int, again: list[str] | None
) -> tuple[int, list[dict[str, Any]]]:
    """The number of all changes, and what became of those that were tried."""
    source = (ROOT / module).read_text(encoding="utf-8")
    every = changes(source)
    tried = written(source, every if sample is None else drawn(every, seed), sample)
    tried = [change for change in tried if again is None or change["change"] in again]
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = Path(place)
        copied(folder)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(folder)
        output, loaded, found = folder / "output.txt", folder / "loaded.txt", folder / "found.json"
        status, seconds = alone(lambda: baseline(tests, loaded), output, LONGEST)
        if status:
            raise SystemExit(f"the tests fail as they are:\n{output.read_text()}")
        sys.dont_write_bytecode = True  # or a changed module would stay for the next one
        for name in loaded.read_text().split():  # once here, not in each of the processes
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        target, limit = folder / module, SPARE + PER_BASELINE * seconds
        kept = target.stat().st_mtime
        alone(lambda: quick(module, tests, tried, output, limit, found), None, math.inf)
        statuses = json.loads(found.read_text()) if found.exists() else [0] * len(tried)
        for number, (change, quickly) in enumerate(zip(tried, statuses, strict=True), 1):
            status = quickly
            if not status:  # does it survive where every module is loaded anew, too?
                target.write_text(change["code"], encoding="utf-8")
                os.utime(target, (kept + number, kept + number))  # compiled anew, though it may have the same size
                status, seconds = alone(lambda: run_tests(tests), output, limit)
                print(f"{number} of {len(tried)}, loaded anew: {seconds:.1f} s, {status}", file=sys.stderr, flush=True)
            change["noticed"] = status != 0
            del change["code"]
    return len(every), tried


def main() -> int:
    """Change, test, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="so many changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--again", type=Path, metavar="PATH", help="JSON list of the only changes to try")
    parser.add_argument("--json", type=Path, help="where to write what became of each")
    parser.add_argument("module", metavar="FILE")
    parser.add_argument("tests", nargs=argparse.REMAINDER, metavar="TESTS")
    arguments = parser.parse_args()
    if not arguments.tests:
        parser.error("which tests?")
    report = None if arguments.json is None else arguments.json.resolve()
    again = None if arguments.again is None else json.loads(arguments.again.read_text())
    every, tried = outcomes(arguments.module, arguments.tests, arguments.sample, arguments.seed, again)
    survived = [change for change in tried if not change["noticed"]]
    for change in survived:
        print(f"{change['operator']} at line {change['place'][0]} of {arguments.module} survives:\n    {change['change']}")
    noticed = f"{len(tried) - len(survived)} of {len(tried)} changes noticed"
    print(f"{arguments.module}: {noticed}" + (f", drawn from {every}" if len(tried) < every else ""))
    if report is not None:
        report.write_text(json.dumps({"changes": every, "tried": tried}, indent=1))
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
