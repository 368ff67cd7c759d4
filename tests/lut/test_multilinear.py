"""The multilinear extension against the sum of its definition, its gradient against differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqprop_lab.lut.multilinear import BLOCK, multilinear, products
from tests.lut.pieces import corners


def by_definition(pins: Tensor, table: Tensor) -> Tensor:
    total = torch.zeros_like(pins[0])
    for entry in range(2 ** len(pins)):
        chance = torch.ones_like(pins[0])
        for number, pin in enumerate(pins):
            chance = chance * (pin if entry >> number & 1 else 1 - pin)
        total = total + table[:, entry : entry + 1] * chance
    return total


def drawn(inputs: int, nodes: int, batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(inputs)
    pins = torch.rand(inputs, nodes, batch, generator=generator, dtype=torch.float64)
    table = torch.rand(nodes, 2**inputs, generator=generator, dtype=torch.float64)
    return pins.requires_grad_(), table.requires_grad_()


@pytest.mark.parametrize("inputs", range(1, 9))
def test_value_and_gradient_are_those_of_the_definition(inputs: int) -> None:
    pins, table = drawn(inputs, 3, 5)
    outer = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted, found = by_definition(pins, table), multilinear(pins, table)
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        torch.testing.assert_close(multilinear(pins, table), wanted)
    expected = torch.autograd.grad(wanted, (pins, table), outer)
    for mine, theirs in zip(
        torch.autograd.grad(found, (pins, table), outer), expected, strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_the_gradient_is_that_of_differences(inputs: int) -> None:
    assert torch.autograd.gradcheck(multilinear, drawn(inputs, 2, 3))


def test_more_nodes_than_a_block() -> None:
    pins, table = drawn(3, 2 * BLOCK + 7, 2)
    wanted = torch.autograd.grad(by_definition(pins, table).sum(), (pins, table))
    found = torch.autograd.grad(multilinear(pins, table).sum(), (pins, table))
    torch.testing.assert_close(found, wanted)


def test_the_table_alone_can_be_asked_for() -> None:
    pins, table = drawn(3, 4, 5)
    pins = pins.detach()
    (found,) = torch.autograd.grad(multilinear(pins, table).sum(), table)
    (wanted,) = torch.autograd.grad(by_definition(pins, table).sum(), table)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("inputs", range(1, 9))
def test_on_bits_it_is_the_entry_itself(inputs: int) -> None:
    table = torch.randn(1, 2**inputs)
    torch.testing.assert_close(multilinear(corners(inputs), table), table, rtol=0, atol=0)


def test_products_are_chances_of_addresses() -> None:
    pins = torch.rand(4, 3, 6)
    chances = products(pins, torch.ones(3, 6))
    assert chances.shape == (3, 16, 6)
    torch.testing.assert_close(chances.sum(1), torch.ones(3, 6))
    torch.testing.assert_close(
        chances[:, 0b0101], pins[0] * (1 - pins[1]) * pins[2] * (1 - pins[3])
    )
