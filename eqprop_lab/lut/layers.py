"""A layer: wiring, then nodes; (B, inputs) -> (B, O), and what runtime parameters do on the way.

    pins = x[index],   y = nodes(pins)      soft in training, hard truth tables in evaluation

Inside, samples are the last axis: a pin is a whole row of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from eqprop_lab.lut.multilinear import multilinear
from eqprop_lab.lut.nodes.base import LUTNodes, look_up
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.lut.runtime import Runtime
from eqprop_lab.lut.wiring import FixedWiring, balanced
from eqprop_lab.validation import positive_int


class LUTLayer(nn.Module, ABC):
    """A layer of LUT nodes.

    Args: input_size: features that it reads. nodes: all its nodes. generator: draws the wiring.
    A subclass says in `wire` how its pins are wired.
    """

    def __init__(self, input_size: int, nodes: LUTNodes, generator: torch.Generator) -> None:
        super().__init__()
        self.input_size = positive_int("input_size", input_size)
        self.nodes = nodes
        self.wiring = self.wire(generator)
        self.use(Runtime(), 0)

    @property
    def output_size(self) -> int:
        """Number of nodes O."""
        return self.nodes.count

    @abstractmethod
    def wire(self, generator: torch.Generator) -> nn.Module:
        """A module x (inputs, B) -> pins (n, O, B), with `indices() -> (n, O)`."""

    def use(self, runtime: Runtime, seed: int) -> None:
        """Compute with these runtime parameters; evaluation draws from that seed anew."""
        self.runtime = runtime
        self.seed, self.draws = seed, 0

    def forward(self, x: Tensor) -> Tensor:
        rows = self._flipped(x.t().contiguous())
        pins = self.wiring(rows)
        found = self._trained(pins) if self.training else self._evaluated(pins)
        return found.t()

    def _trained(self, pins: Tensor) -> Tensor:
        how = self.runtime
        if how.forward_mode == "soft":
            found = self.nodes.soft(pins, how.temperature)
        else:
            kind, hard = how.forward_mode.startswith("gumbel"), how.forward_mode.endswith("hard")
            found = multilinear(pins, self.nodes.noisy_table(how.temperature, kind, hard))
        if how.dropout > 0:
            dropped = torch.rand_like(found) < how.dropout
            found = found.masked_fill(dropped, 0.5)
        if how.grad_stabilization != "none" and found.requires_grad:
            found.register_hook(self._stabilised)
        return found

    def _evaluated(self, pins: Tensor) -> Tensor:
        how = self.runtime
        if how.eval_mode == "threshold":
            return self.nodes.hard(pins)
        if how.eval_mode == "expectation":
            return self.nodes.soft(pins, how.temperature)
        chance = look_up(pins, self.nodes.table(how.temperature))
        return (self._uniform(chance) < chance).to(chance.dtype)

    def _flipped(self, rows: Tensor) -> Tensor:
        """Input bits, each flipped with its probability; the gradient is that of no flip."""
        how = self.runtime
        chance = how.flip_probability if self.training else how.eval_flip_probability
        if chance == 0:
            return rows
        drawn = torch.rand_like(rows) if self.training else self._uniform(rows)
        return rows + ((1 - 2 * rows) * (drawn < chance)).detach()

    def _uniform(self, like: Tensor) -> Tensor:
        """Numbers in [0, 1) of a generator of evaluation's own: training draws what it drew."""
        generator = torch.Generator(device="cpu").manual_seed(self.seed + self.draws)
        self.draws += 1
        drawn = torch.rand(like.shape, generator=generator, dtype=like.dtype, device="cpu")
        return drawn.to(like.device)

    @property
    def across_samples(self) -> str:
        """Why its gradient is no mean over samples; empty where it is."""
        kind = self.runtime.grad_stabilization
        return "" if kind == "none" else f"scales gradients (grad_stabilization={kind!r})"

    def _stabilised(self, gradient: Tensor) -> Tensor:
        """g times target / sqrt(mean g^2 + epsilon), over all of it or over each sample."""
        how = self.runtime
        whole = how.grad_stabilization == "layerwise"
        axes = (0, 1) if whole else (0,)
        if how.grad_subtract_mean:
            gradient = gradient - gradient.mean(axes, keepdim=True)
        square = gradient.square().mean(axes, keepdim=True)
        return gradient * (how.grad_target_std / (square + how.grad_epsilon).sqrt())


@REGISTRY.register_layer("random")
class RandomLayer(LUTLayer):
    """Pins drawn once, every input read equally often."""

    def wire(self, generator: torch.Generator) -> nn.Module:
        index = balanced(self.input_size, self.nodes.count, self.nodes.inputs, generator)
        return FixedWiring(index)


@REGISTRY.register_layer("fixed")
class FixedLayer(RandomLayer):
    """Pins that read what a file of weights says, drawn as those of `random` until it is loaded."""
