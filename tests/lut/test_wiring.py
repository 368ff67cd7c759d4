"""Drawn wirings leave no input out and no node reads one twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from eqprop_lab.lut.wiring import FixedWiring, balanced


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
