"""`python -m eqprop_lab rerun ID`: train a stored run again; does the result reproduce?"""

from __future__ import annotations

from collections.abc import Sequence

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.experiments.comparing import Train, rerun
from eqprop_lab.experiments.config import on_device, train_from_config
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.runs import RunStore


def main(argv: Sequence[str], train: Train = train_from_config) -> int:
    """0 when it reproduces, 1 when it does not, 2 for a wrong call or a run that cannot be read."""
    parser = make_parser("rerun", __doc__, "--runs", "--device")
    parser.add_argument("id", metavar="ID", help="id of a run, or how it starts")
    options = parser.parse_args(argv)
    try:
        run = RunStore(options.runs).get(options.id)
        result = rerun(run, lambda config: train(on_device(config, options.device)))
    except USERS_ERRORS as error:
        return refuse(error)
    print(result.summary())
    return 0 if result.exact else 1
