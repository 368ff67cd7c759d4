"""`python -m eqprop_lab gpu-check`: what only a GPU can show, measured and stored as one JSON file.

    make gpu-check GPU_ARGS="--only cifar10 --data FOLDER --minutes 9"

again and again until it is finished trains ConvEqProp and its backprop twin on CIFAR-10.
Without a CUDA device the command says so, lists what it would run and exits 0; `--device cpu` runs
the checks on the processor, the CIFAR-10 run at toy size (`--toy`) only. `--publish REPORT ...`
makes one stored result of reports, for notebooks (`--out data/results`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eqprop_lab.files import replace_text
from eqprop_lab.gpu.checks import CHECKS, run_checks
from eqprop_lab.gpu.cifar import Options
from eqprop_lab.gpu.results import publish


def store(report: dict[str, Any], folder: Path) -> Path:
    """Write `gpu-check-<date>.json` atomically and return its path."""
    path = folder / f"gpu-check-{report['date'].replace(':', '').replace('+0000', 'Z')}.json"
    return replace_text(path, json.dumps(report, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eqprop_lab gpu-check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list(CHECKS)
    add = parser.add_argument
    add("--only", nargs="+", metavar="CHECK", choices=names, help=f"some of {', '.join(names)}")
    add("--out", type=Path, default=Options.out, help="folder of what is stored (%(default)s)")
    add("--device", choices=("cuda", "cpu"), help="default: cuda, if there is one")
    add("--publish", type=Path, nargs="+", metavar="REPORT", help="reports of one device, as one")
    run = parser.add_argument_group("cifar10").add_argument
    run("--data", type=Path, help="images by class, or torchvision's files (the data folder)")
    run("--minutes", type=float, default=Options.minutes, help="of one call (%(default)s)")
    run("--epochs", type=int, help="instead of the recipe's")
    run("--fill-minutes", type=float, help="as many epochs as take the EqProp network so long")
    run("--toy", action="store_true", help="two small layers, few images, two epochs")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the checks and store the figures: 1 if one fails, 2 for a wrong call, 0 without a GPU."""
    parser = _parser()
    given = vars(parser.parse_args(argv))
    place = given.pop("device")
    names, reports = given.pop("only") or list(CHECKS), given.pop("publish")
    try:
        options = Options(**given)
        if reports is not None:
            print(f"stored in {publish(reports, options.out)}")
            return 0
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    if place == "cpu" and "cifar10" in names and not options.toy:
        parser.error(
            "--device cpu: cifar10 would take days; give --toy, or name other checks with --only"
        )
    if place != "cpu" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured. With one, this would run:")
        for name in names:
            print(f"  {name:<12} {CHECKS[name].text}")
        return 0

    def done(name: str, report: dict[str, Any]) -> None:
        # stored every time: what is measured is kept, whatever ends the next check
        print(line(name, report["checks"][name]), flush=True)
        store(report, options.out)

    report = run_checks(torch.device(place or "cuda"), names, options, done)
    print(f"stored in {store(report, options.out)}")
    return 0 if report["ok"] else 1


def line(name: str, figures: dict[str, Any]) -> str:
    """A check in one line; the rows of a table below it."""
    rows = {key: value for key, value in figures.items() if isinstance(value, dict)}
    flat = {key: value for key, value in figures.items() if key not in rows and key != "trace"}
    head = f"{'ok' if figures['ok'] else 'FAILED':<7}{name:<12} {shown(flat)}"
    below = [f"       {key}: {shown(value)}" for key, value in rows.items()]
    return "\n".join([head, *below, *(f"       {text}" for text in figures.get("trace", ()))])


def shown(figures: dict[str, Any]) -> str:
    """Names and values, three digits each."""
    return ", ".join(
        f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
    )
