"""A network as a table: its modules, what they give, their parameters, their FLOP.

    FLOP = 2 x multiplications-and-additions of products and convolutions, as they are carried out

A relaxation is counted step by step, as often as it is walked: LoopedMLP(64, 128, 10) takes 19
times the FLOP of its feed-forward twin at 30 steps, with the same parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.equilibrium.relaxation import free_state
from eqprop_lab.instruments.looking import STATE
from eqprop_lab.modules import evaluated
from eqprop_lab.tables import text_table

LOOP = "relaxation"


@dataclass(frozen=True)
class Layer:
    """name and kind of a module (or block of a state), shape of what it gives without the batch,
    its parameters; flop of one sample, None where they are a part of the relaxation's.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flop: float | None


@dataclass(frozen=True)
class Summary:
    """layers: in the order of the pass; parameters, flop (of one sample): of the whole network;
    steps: of the relaxation, None where there is none.
    """

    model: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    parameters: int
    flop: float
    steps: int | None = None

    def table(self) -> str:
        """The layers, then the whole."""
        head = ("layer", "kind", "shape", "parameters", "FLOP")
        rows = [
            (row.name, row.kind, _sizes(row.shape), f"{row.parameters:,}", _count(row.flop))
            for row in self.layers
        ]
        kind = "" if self.steps is None else f"{self.steps} steps"
        whole = (self.model, kind, "", f"{self.parameters:,}", _count(self.flop))
        return "\n".join(text_table([head, *rows, whole]))


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _count(flop: float | None) -> str:
    return "" if flop is None else f"{flop:,.0f}"


def summary(model: nn.Module, x: Tensor) -> Summary:
    """The table of a network for inputs x (B, ...); nothing of it is changed.

    Raises TypeError for what is no module, and what the network raises for x.
    """
    with evaluated(model), torch.no_grad():
        if isinstance(model, EquilibriumModel):
            layers, flop, steps = _settled(model, x)
        else:
            layers, flop = _passed(model, x)
            steps = None
    shape = tuple(x.shape[1:])
    return Summary(type(model).__name__, shape, layers, _own(model), flop, steps)


def _passed(model: nn.Module, x: Tensor) -> tuple[tuple[Layer, ...], float]:
    """Modules without children that give a tensor, in the order of the pass."""
    leaves = {m: name for name, m in model.named_modules() if not list(m.children())}
    counter = FlopCounterMode(display=False)
    found: dict[str, tuple[nn.Module, tuple[int, ...], float]] = {}
    begun: dict[nn.Module, int] = {}

    def before(module: nn.Module, given: object) -> None:
        begun[module] = counter.get_total_flops()

    def after(module: nn.Module, given: object, out: object) -> None:
        if isinstance(out, Tensor):
            name = leaves[module]
            earlier = found[name][2] if name in found else 0.0
            spent = counter.get_total_flops() - begun[module]
            found[name] = (module, tuple(out.shape[1:]), earlier + spent)

    handles = [m.register_forward_pre_hook(before) for m in leaves]
    handles += [m.register_forward_hook(after) for m in leaves]
    try:
        with counter:
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    rows = tuple(
        Layer(name or type(m).__name__, type(m).__name__, shape, _own(m), flop / len(x))
        for name, (m, shape, flop) in found.items()
    )
    return rows, counter.get_total_flops() / len(x)


def _own(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _settled(model: EquilibriumModel, x: Tensor) -> tuple[tuple[Layer, ...], float, int]:
    """The blocks of the state, the loop over them, and what is read off."""
    model.check_batch(x)
    # weights are bounded once a batch, which is no part of a sample
    with model.frozen_weights(), FlopCounterMode(display=False) as counter:
        end = free_state(model, x, max_steps=model.max_steps)[1]
        loop = counter.get_total_flops()
        logits = model.readout(end.state)
        whole = counter.get_total_flops()
    blocks = [
        Layer(STATE.format(number), "state", tuple(block.shape[1:]), 0, None)
        for number, block in enumerate(end.state)
    ]
    read = _readout_parameters(model, end.state)
    blocks.append(Layer(LOOP, f"{end.steps} steps", (), _own(model) - read, loop / len(x)))
    blocks.append(
        Layer("readout", "logits", tuple(logits.shape[1:]), read, (whole - loop) / len(x))
    )
    return tuple(blocks), whole / len(x), end.steps


def _readout_parameters(model: EquilibriumModel, state: tuple[Tensor, ...]) -> int:
    """Scalars of the parameters that the logits of a given state depend on."""
    named = [p for p in model.parameters() if p.requires_grad]
    if not named:
        return 0
    with torch.enable_grad():
        total = model.readout(state).sum()
    used = torch.autograd.grad(total, named, allow_unused=True)
    return sum(p.numel() for p, g in zip(named, used, strict=True) if g is not None)
