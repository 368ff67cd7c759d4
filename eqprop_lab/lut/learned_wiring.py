"""Wiring that is learned: every pin scores its candidates, and reads the best one.

    forward    pin p reads x[c*],  c* the candidate of the largest W_pc
    backward   dW_pc = g_p (2 x_c - 1),   dx = sum_p softmax(W_p / tau) g_p

The forward pass is hard from the first step, so that training and evaluation read the same. With
all inputs as candidates (`learnable`; DWN, arXiv:2410.11112) W has pins x inputs entries; with a
few drawn ones (`topk`; LILogicNet, arXiv:2511.12340) as many as there are candidates.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from eqprop_lab.lut.layers import RandomLayer
from eqprop_lab.lut.nodes.base import LUTNodes
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.lut.wiring import balanced
from eqprop_lab.validation import positive_int, real

TAU = 1e-3
MOST = 2**28  # scores of a layer: 1 GiB in float32, and Adam keeps three times as much


class _AmongAll(torch.autograd.Function):
    """x (inputs, B), scores (P, inputs) -> the best input of every pin (P, B)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scores: Tensor, tau: float) -> Tensor:
        ctx.save_for_backward(x, scores)
        ctx.tau = tau
        return x.index_select(0, scores.argmax(1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, scores = ctx.saved_tensors
        (gradient,) = gradients
        by_scores = gradient @ (2 * x - 1).t()
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = torch.softmax(scores / ctx.tau, 1).t() @ gradient
        return by_x, by_scores, None


class _AmongFew(torch.autograd.Function):
    """The same with candidates (P, k), inputs that the scores (P, k) are of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scores: Tensor, tau: float, candidates: Tensor) -> Tensor:
        ctx.save_for_backward(x, scores, candidates)
        ctx.tau = tau
        best = candidates.gather(1, scores.argmax(1, keepdim=True))
        return x.index_select(0, best.flatten())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, scores, candidates = ctx.saved_tensors
        (gradient,) = gradients
        shares = torch.softmax(scores / ctx.tau, 1)
        by_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        by_scores = torch.empty_like(scores)
        whole = gradient.sum(1)
        for number, inputs in enumerate(candidates.t()):
            read = x.index_select(0, inputs)
            product = torch.bmm(gradient.unsqueeze(1), read.unsqueeze(2)).flatten()
            by_scores[:, number] = 2 * product - whole
            if by_x is not None:
                by_x.index_add_(0, inputs, gradient * shares[:, number : number + 1])
        return by_x, by_scores, None, None


class LearnedWiring(nn.Module):
    """x (inputs, B) -> pins (n, O, B), each the best scored of its candidates.

    candidates: (n O, k) input numbers, None: all of them.
    """

    candidates: Tensor | None

    def __init__(
        self, shape: tuple[int, int], scores: Tensor, candidates: Tensor | None, tau: float
    ) -> None:
        super().__init__()
        self.shape = shape
        self.tau = real("tau", tau, above=0.0)
        self.scores = nn.Parameter(scores)
        self.register_buffer("candidates", candidates)

    @torch.no_grad()
    def indices(self) -> Tensor:
        """The input that every pin reads now, (n, O)."""
        best = self.scores.argmax(1, keepdim=True)
        found = best if self.candidates is None else self.candidates.gather(1, best)
        return found.view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return x.index_select(0, self.indices().flatten()).view(*self.shape, -1)
        if self.candidates is None:
            found = _AmongAll.apply(x, self.scores, self.tau)
        else:
            found = _AmongFew.apply(x, self.scores, self.tau, self.candidates)
        pins: Tensor = found.view(*self.shape, -1)
        return pins


class _LearnedLayer(RandomLayer):
    """What layers of learned wiring share.

    number: of the layer, 0 the first. learned_layers: from this number on wiring is drawn, as that
    of `random`; None: every layer learns its own. Raises: TypeError, ValueError.
    """

    def __init__(
        self,
        input_size: int,
        nodes: LUTNodes,
        generator: torch.Generator,
        tau: float,
        learned_layers: int | None,
        number: int,
    ) -> None:
        self.tau = real("tau", tau, above=0.0)
        most = None if learned_layers is None else positive_int("learned_layers", learned_layers)
        self.learns = most is None or number < most
        super().__init__(input_size, nodes, generator)

    def wire(self, generator: torch.Generator) -> nn.Module:
        if not self.learns:
            return super().wire(generator)
        shape = (self.nodes.inputs, self.nodes.count)
        return LearnedWiring(shape, *self._drawn(generator), self.tau)

    @abstractmethod
    def _drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """First scores, and their candidates."""

    def _scores(self, candidates: int, generator: torch.Generator) -> Tensor:
        """Drawn from U(0, 1). Raises ValueError for more of them than can be meant."""
        pins = self.nodes.count * self.nodes.inputs
        if pins * candidates > MOST:
            raise ValueError(
                f"layer_type: {pins} pins with {candidates} candidates are "
                f"{4 * pins * candidates / 2**30:.1f} GiB of scores; 'topk' takes fewer candidates"
            )
        return torch.rand(pins, candidates, generator=generator, device="cpu")


@REGISTRY.register_layer("learnable")
class LearnableLayer(_LearnedLayer):
    """Every pin chooses among all inputs. tau > 0: see the module; learned_layers: above."""

    def __init__(
        self,
        input_size: int,
        nodes: LUTNodes,
        generator: torch.Generator,
        tau: float = TAU,
        learned_layers: int | None = None,
        number: int = 0,
    ) -> None:
        super().__init__(input_size, nodes, generator, tau, learned_layers, number)

    def _drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return self._scores(self.input_size, generator), None


@REGISTRY.register_layer("topk")
class TopKLayer(_LearnedLayer):
    """Every pin chooses among `candidates` (8) drawn inputs, those of a node all different where
    there are enough.
    """

    def __init__(
        self,
        input_size: int,
        nodes: LUTNodes,
        generator: torch.Generator,
        candidates: int = 8,
        tau: float = TAU,
        learned_layers: int | None = None,
        number: int = 0,
    ) -> None:
        self.candidates = positive_int("candidates", candidates)
        super().__init__(input_size, nodes, generator, tau, learned_layers, number)

    def _drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        pins, nodes, few = self.nodes.inputs, self.nodes.count, self.candidates
        drawn = balanced(self.input_size, nodes, pins * few, generator)
        chosen = drawn.view(pins, few, nodes).permute(0, 2, 1).reshape(pins * nodes, few)
        return self._scores(few, generator), chosen
