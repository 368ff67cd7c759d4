"""Drawn wirings leave no input out and no node reads one twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from eqprop_lab.lut import SimpleFeedForward
from eqprop_lab.lut.wiring import FixedWiring, balanced, butterfly
from tests.lut.pieces import config


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_inputs_are_read_equally_often_and_never_twice(
    inputs: int, nodes: int, pins: int, seed: int
) -> None:
    index = balanced(inputs, nodes, pins, torch.Generator().manual_seed(seed))
    assert index.shape == (pins, nodes)
    often = torch.bincount(index.flatten(), minlength=inputs)
    assert len(often) == inputs
    assert int(often.max()) - int(often.min()) <= 1
    if pins <= inputs:
        assert all(len(set(node.tolist())) == pins for node in index.t())


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 8), st.integers(0, 3))
def test_a_butterfly_reads_equally_often_too(
    inputs: int, nodes: int, pins: int, number: int
) -> None:
    index = butterfly(inputs, nodes, pins, number)
    often = torch.bincount(index.flatten(), minlength=inputs)
    assert index.shape == (pins, nodes) and len(often) == inputs
    assert int(often.max()) - int(often.min()) <= 1
    if pins <= inputs:
        assert all(len(set(node.tolist())) == pins for node in index.t())


def test_layers_of_a_butterfly_mix_all_inputs() -> None:
    """27 inputs, layers of 9, 3 and 1 nodes of 3 pins: no input is read twice on the way."""
    reach = [{i} for i in range(27)]
    for number, nodes in enumerate((9, 3, 1)):
        index = butterfly(len(reach), nodes, 3, number)
        reach = [set().union(*(reach[i] for i in node)) for node in index.t().tolist()]
        assert [len(one) for one in reach] == [3 ** (number + 1)] * nodes
    assert butterfly(27, 9, 3, 1)[:, 0].tolist() == [0, 3, 6]


@pytest.mark.parametrize(("image", "window"), [([2, 4, 6], 3), ([1, 8, 6], 5), (None, 4)])
def test_local_nodes_read_windows(image: list[int] | None, window: int) -> None:
    size = 48
    options = {"window": window} | ({} if image is None else {"image": image})
    made = model_of(size, options)
    index, bits = made.layers[0].wiring.indices(), 3
    channels, height, width = image or [1, 1, size * bits]
    pixel = index.long() // (bits if image else 1) % (height * width)
    rows, columns = pixel // width, pixel % width
    for places in (rows, columns):
        assert int((places.amax(0) - places.amin(0)).max()) < window
    assert all(len(set(node.tolist())) == 4 for node in index.t())
    assert len(columns[0].unique()) > width // 4  # windows lie everywhere
    later = made.layers[1].wiring.indices()
    assert int(torch.bincount(later.flatten()).max()) == 1  # 48 pins on 80 outputs


def model_of(size: int, options: dict[str, object]) -> SimpleFeedForward:
    return SimpleFeedForward(
        config(input_size=size, layer_type="local", layer_config=options, layer_widths=[80, 12])
    )


def test_images_that_do_not_fit() -> None:
    for image, words in (([48], "channels, height, width"), ([1, 5, 5], "as many pixels")):
        with pytest.raises(ValueError, match=words):
            model_of(48, {"image": image})
    with pytest.raises(ValueError, match="window"):
        model_of(48, {"image": [1, 6, 8], "window": 0})


def test_a_seed_is_a_wiring() -> None:
    one, same, other = (
        balanced(30, 20, 6, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_pins_are_drawn_from_all_inputs_alike() -> None:
    """The first pin is no more often a low number than the last."""
    index = balanced(100, 2000, 4, torch.Generator().manual_seed(0)).float()
    assert float((index.mean(1) - 49.5).abs().max()) < 4 * 28.9 / 2000**0.5


def test_pins_read_what_they_are_wired_to() -> None:
    index = balanced(7, 5, 3, torch.Generator().manual_seed(0))
    x = torch.rand(7, 4, requires_grad=True)
    pins = FixedWiring(index)(x)
    assert all(
        torch.equal(pins[pin, node], x[int(index[pin, node])])
        for pin in range(3)
        for node in range(5)
    )
    pins.sum().backward()
    wanted = torch.bincount(index.flatten(), minlength=7).float()
    torch.testing.assert_close(x.grad, wanted[:, None].expand(-1, 4))
    with pytest.raises(IndexError):
        FixedWiring(index)(x[:3])
