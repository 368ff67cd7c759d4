"""`python -m eqprop_lab compare A B` and `rerun ID`: the run store from the command line.

Exit status: 0 done (rerun: it reproduces), 1 it does not reproduce, 2 wrong call or a run that
cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eqprop_lab.datasets import DataUnavailable
from eqprop_lab.experiments.comparing import Train, compare, rerun, train_from_config
from eqprop_lab.experiments.runs import RunError, RunStore
from eqprop_lab.files import replace_file
from eqprop_lab.training.history import BatchError

COMMANDS = ("compare", "rerun")


def main(argv: Sequence[str], train: Train = train_from_config) -> int:
    """Run `compare A B [--figure FILE]` or `rerun ID`, both with `--runs FOLDER`; returns the exit
    status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m eqprop_lab", description="Compare and repeat stored runs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--runs", default="runs", metavar="FOLDER", help="the store (default: runs)"
    )
    one = commands.add_parser(
        "compare", parents=[shared], help="differences of two runs and their curves overlaid"
    )
    one.add_argument("a", metavar="A", help="id of a run, or how it starts")
    one.add_argument("b", metavar="B", help="id of another")
    one.add_argument(
        "--figure", metavar="FILE", help="write the curves as a picture (.png, .svg, .pdf)"
    )
    two = commands.add_parser(
        "rerun", parents=[shared], help="train again from the stored config and compare"
    )
    two.add_argument("--device", metavar="NAME", help="where to compute (where the config says)")
    two.add_argument("id", metavar="ID", help="id of a run, or how it starts")
    try:
        arguments = parser.parse_args(list(argv))
    except SystemExit as end:
        return int(end.code or 0)
    store = RunStore(arguments.runs)
    try:
        if arguments.command == "compare":
            comparison = compare(store.get(arguments.a), store.get(arguments.b))
            print(comparison.table())
            if arguments.figure is not None:
                kind = Path(arguments.figure).suffix.lstrip(".") or "png"
                figure = comparison.figure()
                replace_file(arguments.figure, lambda file: figure.savefig(file, format=kind))
                print(f"curves: {arguments.figure}")
            return 0
        # Imported here: the other command needs neither models nor data.
        from eqprop_lab.experiments.config import on_device

        result = rerun(
            store.get(arguments.id), lambda config: train(on_device(config, arguments.device))
        )
    except (BatchError, RunError, DataUnavailable, OSError, ValueError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(result.summary())
    return 0 if result.exact else 1
