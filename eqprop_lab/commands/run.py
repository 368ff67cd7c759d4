"""`python -m eqprop_lab run`: the command line of the runner.

Exit codes: 0 green, 1 red, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.regression.baseline import BaselineError
from eqprop_lab.regression.execute import kernel_count
from eqprop_lab.regression.folders import FolderError
from eqprop_lab.regression.parameters import ParameterError, load_parameters
from eqprop_lab.regression.plan import LONGEST, PROFILES, Options, find_notebooks, project_root
from eqprop_lab.regression.report import table
from eqprop_lab.regression.runner import run_notebooks

RED, INTERRUPTED = 1, 130


def parser() -> argparse.ArgumentParser:
    """The arguments of `run`."""
    result = make_parser("run", "Run notebooks as regression.")
    add = result.add_argument
    add(
        "notebooks",
        nargs="*",
        metavar="notebook",
        help="number (04), name or path; default: the whole series",
    )
    add(
        "--profile",
        choices=PROFILES,
        default="smoke",
        help="size of the experiments (default: smoke)",
    )
    add(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a notebook parameter",
    )
    add("--parameters", type=Path, metavar="FILE", help="YAML file with parameters")
    add("--jobs", type=int, default=None, help="kernels at a time (default: 2)")
    add(
        "--output",
        type=Path,
        default=None,
        help="folder for everything a run writes (default: runs/)",
    )
    add(
        "--time-limit",
        type=float,
        default=None,
        metavar="SECONDS",
        help="per notebook, instead of its own limit",
    )
    add(
        "--update",
        action="store_true",
        help="rewrite the committed outputs and figures of green notebooks",
    )
    add("--seeds", default="", metavar="0,1,2,3,4", help="run every notebook under these seeds")
    add(
        "--rebaseline",
        action="store_true",
        help="write value, sd and tolerance from --seeds to the baseline",
    )
    add("--baseline", type=Path, default=None, help="default: tests/regression/baseline.json")
    return result


def seeds_of(text: str) -> list[int]:
    """`0,1,2` as a list of different integers. Raises ParameterError."""
    try:
        seeds = [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ParameterError(f"--seeds takes integers separated by commas, got {text!r}") from error
    if len(set(seeds)) != len(seeds):
        raise ParameterError(f"--seeds names a seed twice: {text!r}")
    return seeds


def options_of(arguments: argparse.Namespace, root: Path) -> Options:
    """Options from parsed arguments. Raises ParameterError, ValueError for what cannot be."""
    given: dict[str, Any] = load_parameters(arguments.parameters) if arguments.parameters else {}
    names = [name for name, _ in arguments.p]
    if len(set(names)) != len(names):
        raise ParameterError(f"-p sets a parameter twice: {', '.join(names)}")
    given |= {name: value for name, value in arguments.p}
    seeds = seeds_of(arguments.seeds)
    if arguments.rebaseline and not seeds:
        raise ParameterError("--rebaseline needs --seeds, for example --seeds 0,1,2,3,4")
    if seeds and "seed" in given:
        raise ParameterError("give --seeds or the parameter seed, not both")
    if arguments.rebaseline and (arguments.profile != "smoke" or given):
        raise ParameterError("--rebaseline needs the smoke profile and the default parameters")
    if arguments.time_limit is not None and not 0 < arguments.time_limit <= LONGEST:
        raise ParameterError(
            f"--time-limit must be above 0 seconds and at most a week, got {arguments.time_limit}"
        )
    return Options(
        root=root,
        output=(arguments.output or root / "runs").resolve(),
        baseline=arguments.baseline or root / "tests" / "regression" / "baseline.json",
        profile=arguments.profile,
        jobs=kernel_count(arguments.jobs),
        parameters=given,
        update=arguments.update,
        seeds=seeds,
        rebaseline=arguments.rebaseline,
        time_limit=arguments.time_limit,
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, being told to end (SIGTERM, a closed terminal) is an interruption.

    What has finished is reported.
    """

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Whoever ignores a signal (nohup) goes on ignoring it; only the main thread may ask for any.
    wanted = [number for number in signals if signal.getsignal(number) == signal.SIG_DFL]
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str]) -> int:
    """Run the notebooks named on the command line; prints the table and the path of the report."""
    arguments = parser().parse_args(argv)
    try:
        root = project_root()
        options = options_of(arguments, root)
        paths = find_notebooks(arguments.notebooks, root)
        if not paths:
            raise ParameterError("there is no notebook to run in notebooks/")
        with interruptible():
            run = run_notebooks(paths, options)
    except (ParameterError, BaselineError, FolderError, ValueError) as error:
        return refuse(error)
    print(table(run.results))
    for line in run.lines:
        print(line)
    if run.error is not None:
        return refuse(run.error)
    print(f"report: {run.report}")
    if run.interrupted:
        return INTERRUPTED
    return 0 if run.green else RED
