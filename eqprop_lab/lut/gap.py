"""Where the hard network loses what the soft one could do: accuracies layer by layer, and how far
tables are from deciding.

    ambiguous    part of the entries with |p - 1/2| < 0.1
    entropy      mean of -p log2 p - (1 - p) log2 (1 - p), in bits: 0 where all is decided
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.lut.hardening import hardened
from eqprop_lab.modules import evaluated
from eqprop_lab.tables import text_table

AMBIGUOUS = 0.1
BATCH = 256  # the words of a part stay in the cache


@dataclass(frozen=True)
class LayerGap:
    """alone, up_to: accuracy with this layer hard and no other, with it and all below it."""

    alone: float
    up_to: float
    ambiguous: float
    entropy: float


@dataclass(frozen=True)
class GapReport:
    """soft, hard: accuracies. agreement: part of the samples to which both answer the same.

    margins (N,): by how much the hard answer's logit is above the next. print() shows all, layers
    counted from 1.
    """

    soft: float
    hard: float
    agreement: float
    margins: Tensor
    layers: tuple[LayerGap, ...]

    def __str__(self) -> str:
        rows = [("layer", "hard alone", "hard up to it", "ambiguous", "entropy [bit]")]
        for number, one in enumerate(self.layers, 1):
            accuracies = f"{one.alone:.2%}", f"{one.up_to:.2%}"
            rows.append((str(number), *accuracies, f"{one.ambiguous:.1%}", f"{one.entropy:.3f}"))
        head = (
            f"soft {self.soft:.2%}, hard {self.hard:.2%}, same answers {self.agreement:.2%}, "
            f"ties {_part(self.margins == 0):.2%}"
        )
        return "\n".join([head, *text_table(rows, right=range(5))])


def discretisation_gap(model: BaseLUTModel, x: Tensor, y: Tensor) -> GapReport:
    """Accuracies on x (N, ...) with classes y (N,), and what the tables look like.

    The model is as it was afterwards. Raises TypeError for what is no LUT network, ValueError.
    """
    if not isinstance(model, BaseLUTModel):
        raise TypeError(f"model must be a BaseLUTModel, got {type(model).__name__}")
    if len(x) == 0 or tuple(y.shape) != (len(x),):
        raise ValueError(f"y must hold a class for each of {len(x)} samples, got {tuple(y.shape)}")
    layers = range(len(model.lut_layers()))
    soft, hard = _logits(model, (), x), _logits(model, layers, x)

    def right(chosen: Collection[int]) -> float:
        return _part(_logits(model, chosen, x).argmax(1) == y)

    first, second = hard.topk(2, 1).values.unbind(1)
    answers = soft.argmax(1), hard.argmax(1)
    # the first layer alone is the first one hard already, all layers are the hard network
    up_to = [*(right(range(number)) for number in layers[1:]), _part(answers[1] == y)]
    alone = [up_to[0], *(right([number]) for number in layers[1:])]
    return GapReport(
        soft=_part(answers[0] == y),
        hard=up_to[-1],
        agreement=_part(answers[0] == answers[1]),
        margins=first - second,
        layers=tuple(LayerGap(alone[k], up_to[k], *_undecided(model, k)) for k in layers),
    )


@torch.no_grad()
def _logits(model: BaseLUTModel, hard: Collection[int], x: Tensor) -> Tensor:
    """Of the network whose layers `hard` are looked up."""
    with evaluated(model), hardened(model, hard):
        return torch.cat([model(part) for part in x.split(BATCH)])


@torch.no_grad()
def _undecided(model: BaseLUTModel, number: int) -> tuple[float, float]:
    """(ambiguous, entropy) of the tables of one layer."""
    p = model.lut_layers()[number].nodes.table(model.runtime.temperature).cpu().double()
    bits = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)
    return _part((p - 0.5).abs() < AMBIGUOUS), float(bits.mean())


def _part(truths: Tensor) -> float:
    return float(truths.cpu().double().mean())
