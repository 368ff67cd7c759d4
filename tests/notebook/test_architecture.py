"""The drawing of a network shows its stages as they are, and what leads around or back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import nn

from eqprop_lab import ConvEqProp, DenseNet3, LoopedMLP, ResNetCifar, SmallCNN
from eqprop_lab.notebook.architecture import Stage, draw_architecture, stages
from eqprop_lab.notebook.style import new_figure

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def drawn(model: nn.Module) -> Axes:
    axes = new_figure(6, 2).subplots()
    draw_architecture(axes, model, X, classes=4)
    return axes


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_a_residual_network_has_a_column_a_stage_and_a_sum_a_block() -> None:
    model = ResNetCifar(14, 4, 1, width=3, seed=0)
    assert stages(model, X) == [
        Stage((3,), (8, 8)),
        Stage((3,), (8, 8), around=2),
        Stage((6,), (4, 4), around=2),
        Stage((12,), (2, 2), around=2),
    ]
    said = texts(drawn(model))
    assert said.count("+ 2x") == 3 and "12\n2x2" in said and "4 logits" in said


def test_dense_layers_are_slices_of_a_column_and_pooling_shrinks_it() -> None:
    model = DenseNet3(10, 4, 3, in_channels=1, seed=0)
    assert [stage.maps for stage in stages(model, X)] == [(6, 3), (4, 3), (3, 3)]
    assert [stage.size for stage in stages(model, X)] == [(8, 8), (4, 4), (2, 2)]
    columns = [patch for patch in drawn(model).patches if isinstance(patch, Rectangle)]
    assert len(columns) == 1 + 3 * 2  # the image, and two slices each
    assert stages(SmallCNN(4, 1, (5, 7), seed=0), X) == [Stage((5,), (4, 4)), Stage((7,), (4, 4))]


def test_a_network_that_settles_has_a_frame_and_arrows_both_ways() -> None:
    model = ConvEqProp(1, [3, 5, 6], 4, image_size=8, seed=0)
    state = [Stage((3,), (8, 8)), Stage((5,), (4, 4)), Stage((6,), (2, 2))]
    assert stages(model, X) == state
    axes = drawn(model)
    arrows = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    # up: from the image, between the layers, to the logits; down: between the layers
    assert len(arrows) == 4 + 2
    assert "again, until nothing moves" in texts(axes)
    assert stages(LoopedMLP(64, 7, 4, seed=0), X) == [Stage((7,), (1, 1))]
    assert "7" in texts(drawn(LoopedMLP(64, 7, 4, seed=0)))


def test_everything_lies_within_the_limits() -> None:
    for model in (ResNetCifar(8, 4, 1, seed=0), ConvEqProp(1, 32, 4, image_size=8, seed=0)):
        axes = drawn(model)
        low, high = axes.get_xlim()
        for patch in axes.patches:
            assert isinstance(patch, Rectangle)
            assert low < patch.get_x() and patch.get_x() + patch.get_width() < high
            assert patch.get_height() > 0 and patch.get_y() > axes.get_ylim()[0]


def test_a_module_whose_stages_are_unknown_is_refused() -> None:
    with pytest.raises(TypeError, match="EquilibriumModel or a VisionModel .*got Sequential"):
        stages(nn.Sequential(nn.Conv2d(1, 3, 3)), X)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (
            torch.rand(2, 64),
            r"x must have the shape \(B, C, H, W\), one image or more, got \(2, 64\)",
        ),
        (torch.rand(0, 1, 8, 8), r"one image or more, got \(0, 1, 8, 8\)"),
        (torch.ones(1, 1, 8, 8, dtype=torch.int64), "images .* of floats, got torch.int64"),
        ([[1.0]], "images .* of floats, got list"),
    ],
    ids=["vectors", "none", "integers", "list"],
)
def test_what_is_no_image_is_refused(x: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        stages(LoopedMLP(64, 8, 3, seed=0), x)
