"""LUTs that slide over an image: every place is read by the same nodes.

    y[o, i, j] = node_o(window of the bits at i, j)      then OR over `pool` x `pool` places
    x -> encoder -> convolutions -> layers of LUTs -> GroupSum -> logits

A channel is one node: its pins read single bits of a window of all channels, its table is shared by
all places. The relaxed OR is the maximum. Source: LogicTreeNet (arXiv:2411.04732), whose channels
are trees of two-input gates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, unfold

from eqprop_lab.lut.encoded import EncodedModel
from eqprop_lab.lut.errors import as_value_error
from eqprop_lab.lut.layers import LUTLayer
from eqprop_lab.lut.registry import REGISTRY
from eqprop_lab.validation import integer, known_keys, positive_int, shown


@dataclass(frozen=True)
class Convolutions:
    """model_config of a convnet, checked.

    image: [channels, height, width] of a sample. channels: nodes of each convolution. kernel: side
    of a window. padding: pixels of 0 around what a convolution reads. pool: side of the places that
    are put together by OR after each convolution; 1 leaves them. Raises ValueError naming the key.
    """

    image: tuple[int, int, int]
    channels: tuple[int, ...]
    kernel: int = 3
    padding: int = 0
    pool: int = 2

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Convolutions:
        """From the section of a configuration."""
        with as_value_error():
            known_keys("model_config", section, [entry.name for entry in fields(cls)])
            for name in ("image", "channels"):
                if name not in section:
                    raise ValueError(f"model_config must have {name}, got {shown(dict(section))}")
            image = _integers("model_config.image", section["image"])
            if len(image) != 3:
                raise ValueError(
                    f"model_config.image must be [channels, height, width], got {list(image)}"
                )
            rest = {
                name: integer(f"model_config.{name}", section[name], at_least=least)
                for name, least in (("kernel", 1), ("padding", 0), ("pool", 1))
                if name in section
            }
            found = cls(image, _integers("model_config.channels", section["channels"]), **rest)
            found.sizes()
            return found

    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the image and behind each convolution and its pool."""
        _, *size = self.image
        found = [(size[0], size[1])]
        for number, _ in enumerate(self.channels):
            height, width = (side + 2 * self.padding - self.kernel + 1 for side in found[-1])
            found.append((height // self.pool, width // self.pool))
            if min(found[-1]) < 1:
                raise ValueError(
                    f"model_config.channels: nothing is left of {found[-2]} pixels behind "
                    f"convolution {number + 1}"
                )
        return found


def _integers(name: str, value: object) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{name} must be a list of integers, got {shown(value)}")
    return tuple(positive_int(f"{name}[{i}]", number) for i, number in enumerate(value))


@REGISTRY.register_model("convnet")
class ConvNet(EncodedModel):
    """LUT convolutions, then layers of LUTs as in `SimpleFeedForward`.

    config.model_config: see `Convolutions`. Shapes: x (B, C, H, W), or rows of as many pixels ->
    logits (B, num_classes).
    """

    @staticmethod
    def check_options(section: Mapping[str, Any], input_size: int | None) -> None:
        """Raise ValueError for a model_config that cannot be built."""
        image = Convolutions.of(section).image
        if input_size not in (None, math.prod(image)):
            raise ValueError(
                f"model_config.image {list(image)} has {math.prod(image)} pixels, input_size is "
                f"{input_size}"
            )

    def make_layers(self, input_size: int) -> list[LUTLayer]:
        self.check_options(self.config.model_config, input_size)
        how = self.convolutions = Convolutions.of(self.config.model_config)
        pins = self.config.node_input_dim
        depths = [how.image[0] * self.encoder.num_bits, *how.channels]
        found = []
        for number, (depth, width) in enumerate(zip(depths, how.channels, strict=False)):
            after = [*how.channels, self.config.layer_widths[0]][number + 1]
            reads = depth * how.kernel**2
            found.append(self.make_layer(number, reads, width, after * pins / width))
        flat = how.channels[-1] * math.prod(how.sizes()[-1])
        return [*found, *self.dense_layers(len(found), flat)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        depth = len(self.config.model_config["channels"])
        found = self._image(self.encode(x))
        for layer in self.layers[:depth]:
            found = self._convolved(layer, found)
        found = found.flatten(1)
        for layer in self.layers[depth:]:
            found = layer(found)
        logits: Tensor = self.head(found)
        return logits

    def _image(self, bits: Tensor) -> Tensor:
        """Bits (B, C H W b) as an image of C b channels."""
        channels, height, width = self.convolutions.image
        rows = bits.view(len(bits), channels, height, width, -1).permute(0, 1, 4, 2, 3)
        return rows.reshape(len(bits), -1, height, width)

    def _convolved(self, layer: torch.nn.Module, image: Tensor) -> Tensor:
        """A layer at every place of the image, then the OR of neighbours."""
        how = self.convolutions
        windows = unfold(image, how.kernel, padding=how.padding)  # (B, channels k^2, places)
        places = windows.shape[2]
        found = layer(windows.transpose(1, 2).reshape(len(image) * places, -1))
        height = image.shape[2] + 2 * how.padding - how.kernel + 1
        maps = found.view(len(image), places, -1).transpose(1, 2)
        return max_pool2d(maps.reshape(len(image), -1, height, places // height), how.pool)
