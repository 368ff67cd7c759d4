"""`python -m eqprop_lab serve NAME ...`: answers over HTTP, on this machine alone.

NAME is a network that comes trained (digits_conv), a LUT network (digits_small), a file of
save_trained, a checkpoint, a run, or a preset, whose weights are then untrained. Several are told
apart by `"model"` in a request. GET / is a page to try it, /openapi.json its description.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.deploy.answers import Limits
from eqprop_lab.deploy.opening import open_model
from eqprop_lab.deploy.serve import serve
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.trained import TrainedError
from eqprop_lab.validation import positive_int

LIMITS = ("batch", "body", "seconds", "tokens", "workers")


def main(argv: Sequence[str]) -> int:
    """Serve until it is stopped; 2 for a wrong call, a model or an address that cannot be used."""
    parser = make_parser("serve", __doc__, "--runs", "--device")
    parser.add_argument("names", nargs="+", metavar="NAME", help="what to serve")
    parser.add_argument("--port", type=int, default=8000, help="%(default)s; 0: one that is free")
    parser.add_argument("--host", default="127.0.0.1", help="%(default)s; there is no login")
    parser.add_argument("--threads", type=int, default=1, help="of torch, a request (%(default)s)")
    for name in LIMITS:
        value = getattr(Limits, name)
        parser.add_argument(
            f"--{name}", type=type(value), default=value, help="at most (%(default)s)"
        )
    options = parser.parse_args(argv)
    limits = {name: getattr(options, name) for name in LIMITS}
    try:
        torch.set_num_threads(positive_int("--threads", options.threads))
        found = [open_model(name, options.runs, options.device) for name in options.names]
        for opened in found:
            if not opened.trained:
                print(
                    f"note: {opened.name} is a preset, its weights are not trained", file=sys.stderr
                )
        serve({opened.name: opened for opened in found}, options.host, options.port, **limits)
    except (*USERS_ERRORS, TrainedError, OverflowError) as error:
        return refuse(error)
    return 0
