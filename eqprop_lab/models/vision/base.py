"""What the convolutional networks have in common: maps, their mean over the pixels, a linear head.

    z = W mean_(i,j) features(x)[:, i, j] + c

The names are those of timm: `forward_features`, `reset_classifier`. The mean is taken over whatever
size is left, so that one network reads 8x8 digits and 32x32 photographs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eqprop_lab.equilibrium.inputs import check_input
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int


class VisionModel(nn.Module):
    """features: images -> maps; head: their mean -> logits. Made by the networks of this folder.

    smallest: the side in pixels below which no map is left.
    Shapes: x (B, in_channels, height, width) -> logits (B, num_classes).
    """

    def __init__(
        self,
        features: nn.Sequential,
        in_channels: int,
        width: int,
        num_classes: int,
        smallest: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_features, self.smallest = in_channels, width, smallest
        self.features = features
        self.num_classes = positive_int("num_classes", num_classes)
        self.head = nn.Linear(width, self.num_classes)
        # Channels last in memory: on a CPU convolutions are 1.0 to 1.7 times as quick.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def check_batch(self, x: Tensor) -> None:
        """Raise before any work when x cannot be fed to this model (type, device, NaN, shape)."""
        check_input(x, self.head.weight)
        fits = x.ndim == 4 and x.shape[1] == self.in_channels
        if not fits or min(x.shape[2:]) < self.smallest:
            least = f", height and width >= {self.smallest}" if self.smallest > 1 else ""
            raise ValueError(
                f"x must have the shape (batch, {self.in_channels}, height, width){least}, "
                f"got {tuple(x.shape)}"
            )

    def forward_features(self, x: Tensor) -> Tensor:
        """x (B, in_channels, height, width) -> the last maps (B, num_features, h, w)."""
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.forward_features(x).mean((2, 3)))

    def reset_classifier(self, num_classes: int, seed: int | None = None) -> None:
        """A new head for other classes, drawn anew where the old one lay; the maps stay.

        Raises TypeError, ValueError naming the argument.
        """
        count = positive_int("num_classes", num_classes)
        old = self.head.weight
        with seeded(seed):
            self.head = nn.Linear(self.num_features, count).to(old.device, old.dtype)
        self.num_classes = count


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (batch norm follows) that keeps the size at stride 1.

        W ~ N(0, 2 / (outputs kernel^2))

    He et al. 2015, arXiv:1502.01852, for the signal that goes back.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (outputs * kernel**2)))
    return layer
