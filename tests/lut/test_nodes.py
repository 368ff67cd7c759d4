"""Every kind of node, on all of its 2^n inputs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from eqprop_lab.lut import REGISTRY
from eqprop_lab.lut.multilinear import multilinear
from eqprop_lab.lut.nodes import LUTNodes, ProbabilisticNodes, address, efd
from eqprop_lab.lut.nodes.gates import gate_tables
from tests.lut.pieces import corners

KINDS = REGISTRY.names("node")


def nodes_of(kind: str, inputs: int, count: int = 5, seed: int = 0) -> LUTNodes:
    made: LUTNodes = REGISTRY.get("node", kind)(count, inputs)
    name, options = made.default_init
    REGISTRY.get("initializer", name)(made, torch.Generator().manual_seed(seed), **options)
    return made


def all_pins(inputs: int, count: int = 5) -> torch.Tensor:
    return corners(inputs).expand(-1, count, -1).contiguous()


def test_there_are_several_kinds() -> None:
    learned = {"probabilistic", "linear_lut", "polylut", "warp", "dwn", "hybrid", "difflogic"}
    assert learned <= set(KINDS)


@pytest.mark.parametrize("inputs", [2, 3, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_on_bits_relaxation_table_and_truth_table_agree(kind: str, inputs: int) -> None:
    if kind == "difflogic" and inputs != 2:
        with pytest.raises(ValueError, match="inputs must be 2"):
            nodes_of(kind, inputs)
        return
    nodes, pins = nodes_of(kind, inputs, 50), all_pins(inputs, 50)
    with torch.no_grad():
        table, bits = nodes.table(0.7), nodes.bits()
        torch.testing.assert_close(nodes.soft(pins, 0.7), table, rtol=0, atol=2e-6)
        torch.testing.assert_close(nodes.hard(pins), bits.float(), rtol=0, atol=0)
        clear = (table - 0.5).abs() > 1e-4
        assert float(clear.float().mean()) > 0.9
        if kind != "difflogic":  # whose mixture of gates may round to none of them
            assert bool(((table >= 0.5) == bits)[clear].all())
        assert 0.05 < float(bits.float().mean()) < 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_pin_is_the_lowest_bit(kind: str) -> None:
    """f = x_0 and not x_1 is no function of the pins in any other order."""
    nodes = nodes_of(kind, 2, 1)
    nodes.set_logits(torch.tensor([[-4.0, 4.0, -4.0, -4.0]]))
    pins = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]]).unsqueeze(1)
    with torch.no_grad():
        assert nodes.hard(pins).tolist() == [[0.0, 1.0, 0.0, 0.0]]
        assert nodes.bits().tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_relaxation_has_its_gradient(kind: str) -> None:
    inputs = 2 if kind == "difflogic" else 3
    nodes = nodes_of(kind, inputs, 2).double()
    pins = torch.rand(inputs, 2, 4, dtype=torch.float64).requires_grad_()
    if nodes.has_pins_between:
        assert torch.autograd.gradcheck(lambda p: nodes.soft(p, 0.8), (pins,))
    theta = next(nodes.parameters())
    nodes.soft(pins, 0.8).sum().backward()
    assert float(theta.grad.abs().sum()) > 0 and float(pins.grad.abs().sum()) > 0


def test_a_linear_node_is_a_sigmoid_of_a_sum_between_bits_too() -> None:
    nodes = nodes_of("linear_lut", 4)
    pins = torch.rand(4, 5, 7)
    bias, weights = nodes.theta[:, :1], nodes.theta[:, 1:]
    wanted = torch.sigmoid((bias + torch.einsum("oj,job->ob", weights, pins)) / 0.3)
    torch.testing.assert_close(nodes.soft(pins, 0.3), wanted)


def test_a_walsh_node_sums_parities_of_signs() -> None:
    nodes = nodes_of("warp", 3, 2)
    pins = torch.rand(3, 2, 6)
    sign = 2 * pins - 1
    one, two = nodes.theta[:, 2:3] * sign[1], nodes.theta[:, -1:] * sign.prod(0)
    with torch.no_grad():
        keep = torch.zeros(8)
        keep[[2, 7]] = 1
        nodes.theta.mul_(keep)
    torch.testing.assert_close(nodes.soft(pins, 1.0), torch.sigmoid(one + two))


def test_a_polynomial_has_products_of_at_most_its_degree() -> None:
    for degree, terms in ((1, 5), (2, 11), (3, 15), (8, 16)):
        nodes = REGISTRY.get("node", "polylut")(3, 4, degree=degree)
        assert nodes.theta.shape == (3, terms)
    parity = torch.tensor([[1.0, -1.0, -1.0, 1.0]])
    line = REGISTRY.get("node", "linear_lut")(1, 2)
    line.set_logits(parity)
    assert float(line.logits().detach().abs().max()) < 1e-6  # no line is nearest to a parity
    full = REGISTRY.get("node", "polylut")(1, 2)
    full.set_logits(parity)
    torch.testing.assert_close(full.logits(), parity)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("noise", [False, True])
def test_tables_of_a_training_step(noise: bool, hard: bool) -> None:
    nodes = ProbabilisticNodes(2000, 2)
    nodes.set_logits(torch.tensor([[-1.0, 0.5, 0.0, 3.0]]).expand(2000, -1))
    torch.manual_seed(0)
    table = nodes.noisy_table(0.5, noise, hard)
    if hard:
        assert set(table.detach().unique().tolist()) <= {0.0, 1.0}
    if hard and noise:  # a 1 as often as the table says
        off = (table.detach().mean(0) - torch.sigmoid(torch.tensor([-2.0, 1.0, 0.0, 6.0]))).abs()
        assert float(off.max()) < 4 * 0.5 / math.sqrt(2000)
    if not noise:
        wanted = torch.sigmoid(nodes.theta / 0.5)
        (mine,) = torch.autograd.grad(table.sum(), nodes.theta)
        (theirs,) = torch.autograd.grad(wanted.sum(), nodes.theta)
        torch.testing.assert_close(mine, theirs)
        if not hard:
            torch.testing.assert_close(table, wanted)


def test_gates_are_numbered_by_their_outputs() -> None:
    table = gate_tables()
    a, b = torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1]).bool()
    for number, outputs in {1: a & b, 3: a, 5: b, 6: a ^ b, 7: a | b, 10: ~b, 14: ~(a & b)}.items():
        assert torch.equal(table[number].bool(), outputs)
    assert len(table.unique(dim=0)) == 16


def test_the_difference_of_dwn_is_the_sum_over_all_entries() -> None:
    generator = torch.Generator().manual_seed(0)
    for inputs, beta in ((1, 1 / 3), (3, 1 / 3), (4, 0.0), (4, 1.0), (5, 0.6)):
        pins = (torch.rand(inputs, 2, 7, generator=generator) < 0.5).double().requires_grad_()
        table = torch.rand(2, 2**inputs, generator=generator, dtype=torch.float64).requires_grad_()
        outer = torch.rand(2, 7, generator=generator, dtype=torch.float64)
        by_pins, by_table = torch.autograd.grad(efd(pins, table, beta), (pins, table), outer)
        alpha = 0.5 / (1 + beta) ** (inputs - 1)
        wanted, scattered = torch.zeros_like(pins), torch.zeros_like(table)
        for node, sample in itertools.product(range(2), range(7)):
            bits = [int(pins[j, node, sample]) for j in range(inputs)]
            where = sum(bit << j for j, bit in enumerate(bits))
            scattered[node, where] += outer[node, sample]
            for j, k in itertools.product(range(inputs), range(2**inputs)):
                away = bin((where ^ k) & ~(1 << j)).count("1")
                sign = 1 if k >> j & 1 else -1
                term = alpha * sign * beta**away * table[node, k].item()
                wanted[j, node, sample] += term * outer[node, sample]
        torch.testing.assert_close(by_pins, wanted, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(by_table, scattered)


def test_it_is_half_the_multilinear_gradient_at_bits_moved_inwards() -> None:
    pins = (torch.rand(6, 3, 20) < 0.5).double().requires_grad_()
    table = torch.rand(3, 64, dtype=torch.float64)
    moved = (0.25 + 0.5 * pins.detach()).requires_grad_()
    (found,) = torch.autograd.grad(efd(pins, table).sum(), pins)
    (wanted,) = torch.autograd.grad(multilinear(moved, table).sum(), moved)
    torch.testing.assert_close(found, wanted / 2, rtol=1e-6, atol=1e-8)


def test_entries_of_dwn_stay_between_0_and_1() -> None:
    nodes = nodes_of("dwn", 2)
    with torch.no_grad():
        nodes.theta[0] = torch.tensor([-3.0, 0.2, 0.7, 5.0])
    assert nodes.eval().soft(all_pins(2), 1.0) is not None
    assert float(nodes.theta.detach().max()) == 5.0
    nodes.train().soft(all_pins(2), 1.0)
    torch.testing.assert_close(nodes.theta[0].detach(), torch.tensor([0.0, 0.2, 0.7, 1.0]))


def test_a_signed_output_is_a_bit_with_the_gradient_of_its_entry() -> None:
    plain, signed = (REGISTRY.get("node", "dwn")(4, 3, sign=sign) for sign in (False, True))
    for nodes in (plain, signed):
        REGISTRY.get("initializer", "uniform")(nodes, torch.Generator().manual_seed(0), 0.0, 1.0)
    pins = all_pins(3, 4)
    assert torch.equal(signed.soft(pins, 1.0), signed.hard(pins))
    for nodes in (plain, signed):
        nodes.soft(pins, 1.0).sum().backward()
    torch.testing.assert_close(signed.theta.grad, plain.theta.grad)


def test_a_hybrid_has_a_gradient_at_exact_bits() -> None:
    nodes, pins = nodes_of("hybrid", 3, 2), all_pins(3, 2).requires_grad_()
    (found,) = torch.autograd.grad(nodes.soft(pins, 1.0).sum(), pins)
    (wanted,) = torch.autograd.grad(multilinear(pins, nodes.table(1.0)).sum(), pins)
    torch.testing.assert_close(found, wanted)
    assert float(found.abs().min()) > 0
    between = torch.full((3, 2, 1), 0.6)
    assert torch.equal(nodes.soft(between, 1.0)[:, 0], nodes.table(1.0)[:, -1])


def test_an_address_counts_a_half_as_a_one() -> None:
    pins = torch.tensor([0.5, 0.49, 0.9]).view(3, 1, 1)
    assert address(pins).item() == 0b101


@pytest.mark.parametrize(("count", "inputs"), [(0, 2), (3, 0), (3, 9), (2.5, 2), (3, True)])
def test_sizes_that_there_are_not(count: int, inputs: int) -> None:
    with pytest.raises((TypeError, ValueError), match="count|inputs"):
        ProbabilisticNodes(count, inputs)
