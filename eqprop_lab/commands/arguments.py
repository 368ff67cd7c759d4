"""What the commands have in common: how they ask, and how they refuse. Loads no torch."""

from __future__ import annotations

import argparse
import sys

SHARED = {
    "--runs": {"default": "runs", "metavar": "FOLDER", "help": "the store of runs (%(default)s)"},
    "--device": {"metavar": "NAME", "help": "where to compute (where the config says)"},
}


def make_parser(command: str, description: str | None, *shared: str) -> argparse.ArgumentParser:
    """A parser for `python -m eqprop_lab COMMAND`, with those options of SHARED that are named."""
    result = argparse.ArgumentParser(
        prog=f"python -m eqprop_lab {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in shared:
        result.add_argument(name, **SHARED[name])  # type: ignore[arg-type]
    return result


def refuse(error: object) -> int:
    """Say why on stderr, in one line; the exit status of a wrong call."""
    print(f"error: {error}", file=sys.stderr)
    return 2
