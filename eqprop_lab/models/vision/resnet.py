"""The residual networks of CIFAR: 6n + 2 layers in three stages of 16, 32 and 64 maps.

    y = relu(BN(W_2 relu(BN(W_1 x))) + skip(x))

skip is x; where size and width change it is every second pixel with maps of zeros (shortcut "A",
no parameters), or a 1x1 convolution with batch norm ("B"). He et al. 2016, arXiv:1512.03385,
section 4.2. ResNet-20 has 269,722 parameters with "A", 272,474 with "B" (3 channels, 10 classes).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import pad

from eqprop_lab.models.vision.base import VisionModel, conv
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import one_of, positive_int

SHORTCUTS = ("A", "B")


class Subsample(nn.Module):
    """Every second pixel; widen: and maps of zeros on both sides until there are twice as many."""

    def __init__(self, widen: bool) -> None:
        super().__init__()
        self.widen = widen

    def forward(self, x: Tensor) -> Tensor:
        every = x[:, :, ::2, ::2]
        side = x.shape[1] // 2
        return pad(every, (0, 0, 0, 0, side, x.shape[1] - side)) if self.widen else every


class Residual(nn.Module):
    """One block of two convolutions: (B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, outputs, stride=stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            conv(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1 and shortcut == "A":
            self.skip = Subsample(widen=True)
        elif stride > 1:
            # A 1x1 convolution of stride 2 is the same; with 4 maps, in channels_last order on a
            # CPU, its backward pass in torch 2.13 writes beyond its memory.
            one = conv(inputs, outputs, kernel=1)
            self.skip = nn.Sequential(Subsample(widen=False), one, nn.BatchNorm2d(outputs))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.skip(x))


class ResNetCifar(VisionModel):
    """ResNet of He et al. for small images, for ``EqPropTrainer(model, gradient="autograd")``.

    Args: depth: 6n + 2 (8, 14, 20, 32, 44, 56, 110); num_classes, in_channels, width (maps of the
    first stage): integers >= 1; shortcut: "A" or "B"; seed as in LoopedMLP.
    Shapes: x (B, in_channels, height, width) -> logits (B, num_classes).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int = 3,
        width: int = 16,
        shortcut: str = "A",
        seed: int | None = None,
    ) -> None:
        depth = positive_int("depth", depth)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, ...), got {depth}")
        blocks = (depth - 2) // 6
        in_channels, width = positive_int("in_channels", in_channels), positive_int("width", width)
        one_of("shortcut", shortcut, SHORTCUTS)
        with seeded(seed):
            layers = [conv(in_channels, width), nn.BatchNorm2d(width), nn.ReLU()]
            for stage in range(3):
                for block in range(blocks):
                    halves = stage > 0 and block == 0
                    outputs = width * 2**stage
                    inputs = outputs // 2 if halves else outputs
                    layers.append(Residual(inputs, outputs, 2 if halves else 1, shortcut))
            super().__init__(nn.Sequential(*layers), in_channels, 4 * width, num_classes)
        self.depth, self.width, self.shortcut = depth, width, shortcut


def _of_depth(depth: int) -> Callable[..., ResNetCifar]:
    def build(
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        shortcut: str = "A",
        seed: int | None = None,
    ) -> ResNetCifar:
        return ResNetCifar(depth, num_classes, in_channels, width, shortcut, seed)

    build.__name__ = build.__qualname__ = f"resnet{depth}"
    build.__doc__ = f"ResNetCifar of depth {depth}; the other arguments are the same."
    return build


resnet8, resnet14, resnet20, resnet32 = map(_of_depth, (8, 14, 20, 32))
resnet44, resnet56, resnet110 = map(_of_depth, (44, 56, 110))
NAMED = (resnet8, resnet14, resnet20, resnet32, resnet44, resnet56, resnet110)
