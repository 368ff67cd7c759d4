"""ConvEqProp, the convolutional layered network, and DeepEqProp, the same with dense layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from eqprop_lab.equilibrium.inputs import as_vectors
from eqprop_lab.equilibrium.linear_maps import ConvMap, DenseMap
from eqprop_lab.models.layered import LayeredModel
from eqprop_lab.validation import positive_int, repeated, shown, sizes

SMALL = 16  # images with fewer pixels a side keep their size in the first layer


def _layer_widths(name: str, value: object, growth: int) -> list[int]:
    """The widths of two or more layers; one integer stands for w and `growth` times w."""
    widths = sizes(name, value)
    if isinstance(widths, int):
        return [widths, growth * widths]
    if len(widths) < 2:
        raise ValueError(
            f"{name} must name at least two layers (with one, nothing feeds back), "
            f"got {shown(value)}"
        )
    return widths


def conv_maps(
    input_channels: int,
    hidden_channels: int | Sequence[int],
    image_size: int | Sequence[int] | None = None,
    kernel_size: int | Sequence[int] | None = None,
    strides: int | Sequence[int] | None = None,
) -> list[ConvMap]:
    """The convolutions of ConvEqProp, input to top layer. Arguments and errors as there."""
    inputs = positive_int("input_channels", input_channels)
    channels = [inputs, *_layer_widths("hidden_channels", hidden_channels, growth=2)]
    depth = len(channels) - 1
    size = (28 if inputs == 1 else 32) if image_size is None else image_size
    height, width = repeated("image_size", size, 2, "sides")
    chosen = None if strides is None else repeated("strides", strides, depth, "layers")
    kernels = None if kernel_size is None else repeated("kernel_size", kernel_size, depth, "layers")
    maps = []
    for layer in range(depth):
        halve = height % 2 == 0 and width % 2 == 0 and (layer > 0 or min(height, width) >= SMALL)
        stride = (2 if halve else 1) if chosen is None else chosen[layer]
        kernel = (5 if layer == 0 and stride > 1 else 3) if kernels is None else kernels[layer]
        if kernel % 2 == 0 and stride == 1:
            raise ValueError(
                f"kernel_size must be odd where the stride is 1, got {kernel} for layer {layer + 1}"
            )
        if kernels is not None and kernel > (limit := max(5, 2 * max(height, width))):
            raise ValueError(
                f"kernel_size must be at most {limit}, twice the {height}x{width} images of layer "
                f"{layer + 1} (what lies further out meets no pixel), got {kernel}"
            )
        if height % stride or width % stride:
            raise ValueError(
                f"strides: {stride} of layer {layer + 1} does not divide its {height}x{width} "
                "images"
            )
        maps.append(
            ConvMap((channels[layer], channels[layer + 1]), (height, width), kernel, stride)
        )
        height, width = height // stride, width // stride
    return maps


class ConvEqProp(LayeredModel):
    """Convolutional equilibrium network: stride for pooling, tanh states, flat linear readout.

    Args:
        input_channels, output_dim: integers >= 1.
        hidden_channels: channels of two or more layers as a list; an integer c stands for [c, 2 c].
        gamma: gain of the feedback, in (0, 1]; None is (rho / (3 * 2 cos(pi/(L+1))))^2 (0.09 for
            two layers), for which the states keep their size with depth. In older EqProp codes a
            `gamma` is a damping factor; this is not.
        rho: the certified contraction is kept below this, in (0, 1). use_spectral_norm: False lifts
            the bound.
        max_steps: sweeps of a free phase. seed: as in LoopedMLP.
        image_size: pixels a side, or (height, width); None is 28 for one channel and 32 for any
            other number.
        kernel_size: one or one per layer, odd where the stride is 1, at most twice the image; None
            is 3, and 5 for a first layer with a stride.
        strides: one or one per layer, each must divide its image; None is 2 wherever the size is
            even, and 1 for the first layer of images below 16 pixels.

    Shapes: x (B, input_channels, height, width); state: one (B, channels_l, height_l, width_l) per
    layer. Parameters: ConvEqProp(1, 32, 10) has 50,698 (28x28 images, 32-64 channels). The 37,674
    of the older network that goes by this name with the same arguments (one recurrence at full
    image size, pooled readout) are met most nearly by ConvEqProp(1, 26, 10) with 38,386.
    Raises: TypeError or ValueError naming the argument. Sources: Ernoult et al. 2019,
    arXiv:1905.13633; Laborieux et al. 2021, doi:10.3389/fnins.2021.633674 (convolutional EqProp).
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int | Sequence[int],
        output_dim: int,
        gamma: float | None = None,
        rho: float = 0.9,
        use_spectral_norm: bool = True,
        max_steps: int = 30,
        seed: int | None = None,
        *,
        image_size: int | Sequence[int] | None = None,
        kernel_size: int | Sequence[int] | None = None,
        strides: int | Sequence[int] | None = None,
    ) -> None:
        maps = conv_maps(input_channels, hidden_channels, image_size, kernel_size, strides)
        super().__init__(maps, output_dim, gamma, rho, use_spectral_norm, max_steps, seed)
        self.input_channels = maps[0].channels[0]
        self.channels = tuple(linear.channels[1] for linear in maps)
        self.hidden_channels = sizes("hidden_channels", hidden_channels)

    def _inputs(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and x.shape[1] != self.input_channels:
            raise ValueError(
                f"x must have {self.input_channels} channels (input_channels), got {x.shape[1]} "
                f"in shape {tuple(x.shape)}"
            )
        return super()._inputs(x)


class DeepEqProp(LayeredModel):
    """Dense layered equilibrium network `input_dim`-`hidden_dims`-`output_dim`.

    Args: hidden_dims, widths of two or more layers as a list, an integer h stands for [h, h]; the
    rest as in ConvEqProp.
    Shapes: x (B, input_dim) or any image shape with as many pixels; state: one (B, hidden_l) per
    layer.
    Raises: TypeError or ValueError naming the argument.
    Source: Scellier and Bengio 2017, doi:10.3389/fncom.2017.00024.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: int | Sequence[int],
        output_dim: int,
        gamma: float | None = None,
        rho: float = 0.9,
        use_spectral_norm: bool = True,
        max_steps: int = 30,
        seed: int | None = None,
    ) -> None:
        hidden = _layer_widths("hidden_dims", hidden_dims, growth=1)
        widths = [positive_int("input_dim", input_dim), *hidden]
        maps = [DenseMap(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        super().__init__(maps, output_dim, gamma, rho, use_spectral_norm, max_steps, seed)
        self.input_dim = widths[0]
        self.hidden_dims = tuple(hidden)

    def _inputs(self, x: Tensor) -> Tensor:
        return as_vectors(x, self.input_dim)
