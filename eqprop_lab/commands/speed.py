"""`python -m eqprop_lab speed`: what is quickest on this machine, torch, compiled or the kernel?

A training step of a LoopedMLP on random images, every way to take it in turns, and how far their
gradients are from each other. Nothing is promised: the ratios are those of this machine, now.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.devices import pick_device
from eqprop_lab.instruments.speed import WRONG, measure_speed
from eqprop_lab.models import LoopedMLP
from eqprop_lab.validation import positive_int


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 when a way computes another gradient, 2 for a wrong call."""
    parser = make_parser("speed", __doc__)
    sizes = {"--input": 784, "--hidden": 256, "--output": 10, "--batch": 64, "--steps": 20}
    for name, value in sizes.items():
        parser.add_argument(name, type=int, default=value, metavar="N", help="(%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (as many as it takes)")
    parser.add_argument("--device", metavar="NAME", help="where to compute (the best there is)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args(argv)
    try:
        for name in sizes:
            positive_int(name, getattr(options, name[2:]))
        device = pick_device(options.device)
        if options.threads is not None:
            torch.set_num_threads(positive_int("--threads", options.threads))
    except (TypeError, ValueError) as error:
        return refuse(error)
    model = LoopedMLP(options.input, options.hidden, options.output, seed=0).to(device)
    x = torch.rand(options.batch, options.input, device=device)
    y = torch.randint(options.output, (options.batch,), device=device)
    found = measure_speed(model, x, y, steps=options.steps, compiled=not options.no_compile)
    print(f"{options.input}-{options.hidden}-{options.output}: {found}")
    return int(any(way.apart > WRONG for way in found.ways.values()))
