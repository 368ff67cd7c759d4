"""`python -m eqprop_lab compare A B`: what differs between two stored runs, curves overlaid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.experiments.comparing import compare
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.runs import RunStore
from eqprop_lab.files import replace_file


def main(argv: Sequence[str]) -> int:
    """Print the table; 2 for a wrong call or a run that cannot be read."""
    parser = make_parser("compare", __doc__, "--runs")
    parser.add_argument("a", metavar="A", help="id of a run, or how it starts")
    parser.add_argument("b", metavar="B", help="id of another")
    parser.add_argument(
        "--figure", metavar="FILE", help="write the curves as a picture (.png, .svg, .pdf)"
    )
    options = parser.parse_args(argv)
    try:
        store = RunStore(options.runs)
        comparison = compare(store.get(options.a), store.get(options.b))
        print(comparison.table())
        if options.figure is not None:
            kind = Path(options.figure).suffix.lstrip(".") or "png"
            figure = comparison.figure()
            replace_file(options.figure, lambda file: figure.savefig(file, format=kind))
            print(f"curves: {options.figure}")
    except USERS_ERRORS as error:
        return refuse(error)
    return 0
