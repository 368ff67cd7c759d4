"""A small convolutional network to change and to look into: a stage for each entry of `channels`.

s_l = pool(relu(BN(W_l s_(l-1)))),   s_0 = x,   z = W mean(s_L) + c
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from eqprop_lab.models.vision.base import VisionModel, conv
from eqprop_lab.seeding import seeded
from eqprop_lab.validation import positive_int, real, sizes, switch


class SmallCNN(VisionModel):
    """Convolutions with 2x2 maxima between them, for ``EqPropTrainer(gradient="autograd")``.

    Args: num_classes, in_channels: integers >= 1; channels: maps of each stage, one number for one
    stage; kernel_size: odd; batch_norm: after every convolution (without it the convolution has a
    bias); dropout: before the head, in [0, 1); seed as in LoopedMLP.
    Shapes: x (B, in_channels, height, width), both >= 2^(stages - 1) -> logits (B, num_classes).
    Raises: TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        channels: int | Sequence[int] = (16, 32),
        kernel_size: int = 3,
        batch_norm: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
    ) -> None:
        found = sizes("channels", channels)
        widths = [found] if isinstance(found, int) else found
        kernel = positive_int("kernel_size", kernel_size)
        if kernel % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel}")
        normed = switch("batch_norm", batch_norm)
        drop = real("dropout", dropout, at_least=0.0, below=1.0)
        inputs = in_channels = positive_int("in_channels", in_channels)
        layers: list[nn.Module] = []
        with seeded(seed):
            for width in widths:
                layers += [nn.MaxPool2d(2)] if layers else []
                layer = conv(inputs, width, kernel)
                if not normed:
                    layer.bias = nn.Parameter(layer.weight.new_zeros(width))
                layers += [layer, *([nn.BatchNorm2d(width)] if normed else []), nn.ReLU()]
                inputs = width
            layers += [nn.Dropout2d(drop)] if drop else []
            features = nn.Sequential(*layers)
            least = 2 ** (len(widths) - 1)
            super().__init__(features, in_channels, inputs, num_classes, smallest=least)
        self.channels, self.kernel_size = tuple(widths), kernel
        self.batch_norm, self.dropout = normed, drop
