"""DenseNets of three dense blocks: every layer reads the maps of all layers before it.

    x_(l+1) = [x_l, W relu(BN(x_l))]                        k new maps a layer
    x_(l+1) = [x_l, W_2 relu(BN(W_1 relu(BN(x_l))))]        with bottleneck: W_1 is 1x1, to 4k maps

Between blocks a 1x1 convolution keeps the share `reduction` of the maps and 2x2 means halve the
size. Huang et al. 2017, arXiv:1608.06993. As in the implementation that users know, the first
convolution has 2k maps in every variant; the paper's plain network has 16: DenseNet3(40, 10, 12,
1.0, False) has 1,059,298 parameters, the paper's 1,019,722. Mind the defaults: DenseNet3(40, 10) is
the bottlenecked, compressed DenseNet-BC with 176,122.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqprop_lab.models.vision.base import VisionModel, conv
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, real, switch


class DenseLayer(nn.Module):
    """x (B, inputs, h, w) -> (B, inputs + growth, h, w): its input, and what it adds to it."""

    def __init__(self, inputs: int, growth: int, bottleneck: bool, drop: float) -> None:
        super().__init__()
        self.body = nn.Sequential()
        if bottleneck:
            self.body.extend(_step(inputs, 4 * growth, 1, drop))
            inputs = 4 * growth
        self.body.extend(_step(inputs, growth, 3, drop))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def _step(inputs: int, outputs: int, kernel: int, drop: float) -> nn.Sequential:
    layers = [nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, outputs, kernel)]
    # None at rate 0: even a dropout of nothing draws from the generator.
    return nn.Sequential(*layers, *([nn.Dropout(drop)] if drop else []))


class DenseNet3(VisionModel):
    """DenseNet for small images, for ``EqPropTrainer(model, gradient="autograd")``.

    Args: depth: 6n + 4 with bottleneck (22, 40, 100, 190), 3n + 4 without; num_classes,
    growth_rate (k), in_channels: integers >= 1; reduction: share of the maps that a transition
    keeps, in (0, 1]; bottleneck: a 1x1 convolution in every layer; dropRate: of every convolution
    in a dense block and transition, in [0, 1); seed as in LoopedMLP.
    Shapes: x (B, in_channels, height, width), both sides >= 4 -> logits (B, num_classes).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        growth_rate: int = 12,
        reduction: float = 0.5,
        bottleneck: bool = True,
        dropRate: float = 0.0,
        *,
        in_channels: int = 3,
        seed: int | None = None,
    ) -> None:
        bottleneck = switch("bottleneck", bottleneck)
        layers = _layers(positive_int("depth", depth), bottleneck)
        growth = positive_int("growth_rate", growth_rate)
        share = real("reduction", reduction, above=0.0, at_most=1.0)
        drop = real("dropRate", dropRate, at_least=0.0, below=1.0)
        in_channels = positive_int("in_channels", in_channels)
        width = 2 * growth
        with seeded(seed):
            features = nn.Sequential(conv(in_channels, width))
            for block in range(3):
                if block:
                    kept = max(1, int(width * share))
                    features.extend((*_step(width, kept, 1, drop), nn.AvgPool2d(2)))
                    width = kept
                for _ in range(layers):
                    features.append(DenseLayer(width, growth, bottleneck, drop))
                    width += growth
            features.extend((nn.BatchNorm2d(width), nn.ReLU()))
            super().__init__(features, in_channels, width, num_classes, smallest=4)
        self.depth, self.growth_rate, self.reduction = int(depth), growth, share
        self.bottleneck, self.dropRate = bottleneck, drop


def _layers(depth: int, bottleneck: bool) -> int:
    """Of each dense block. Raises ValueError for a depth that three equal blocks do not have."""
    each = 6 if bottleneck else 3
    if depth <= 4 or (depth - 4) % each:
        kind = "with bottleneck (22, 40, 100, ...)" if bottleneck else "without bottleneck"
        raise ValueError(f"depth must be {each}n + 4 {kind}, got {depth}")
    return (depth - 4) // each


def densenet3(
    num_classes: int = 10,
    depth: int = 40,
    growth_rate: int = 12,
    reduction: float = 0.5,
    bottleneck: bool = True,
    dropRate: float = 0.0,
    in_channels: int = 3,
    seed: int | None = None,
) -> DenseNet3:
    """DenseNet3 of depth 40 unless another is given; the other arguments are the same."""
    return DenseNet3(
        depth, num_classes, growth_rate, reduction, bottleneck, dropRate,
        in_channels=in_channels, seed=seed,
    )  # fmt: skip
