"""The explorer of chains: its errors and memory are those of the chain, its sentence says them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqprop_lab import DeepEqProp
from eqprop_lab.instruments.live_bytes import MemoryTimeline
from eqprop_lab.notebook.explorers import chain_of_blocks as module
from eqprop_lab.notebook.explorers.chain_of_blocks import Chained, ChainOfBlocks, network, peaks
from eqprop_lab.notebook.explorers.small_networks import digits


def data(**values: object) -> Chained:
    explorer = ChainOfBlocks()
    explorer.set(**values)
    assert not explorer.errors
    found: Chained = explorer.data
    return found


def test_the_limit_is_exact_in_every_block_and_a_finite_nudge_errs_by_its_square() -> None:
    assert data(blocks=3, estimator="response", steps=40).weights.max() < 1e-9
    small, large = (data(blocks=3, beta=beta, steps=40) for beta in (0.01, 0.02))
    np.testing.assert_allclose(large.weights / small.weights, 4, rtol=0.05)
    assert small.total < 1e-3


def test_one_block_errs_as_the_deep_network_does() -> None:
    model = DeepEqProp(64, [module.WIDTH] * 2, 10, seed=0).double()
    x, y = digits(module.DIGITS)
    drive = model.drive(x)
    state = model.initial_state(drive)
    for _ in range(200):
        state = model.step(state, drive)
    loss = torch.nn.functional.cross_entropy(model.readout(state), y)
    exact = torch.autograd.grad(loss, list(model.parameters()))
    for found, wanted in zip(module.exact(1)[0][0], exact, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", [None, "centered", "response"])
def test_the_line_of_memory_goes_through_what_is_measured_elsewhere(estimator: str | None) -> None:
    steps = 14
    seen = Chained(np.ones(2), np.ones(2), 1.0, peaks(2, estimator), peaks(2, None), steps)
    chain = network(2)
    held = [*chain.parameters(), *digits(module.DIGITS)]
    with MemoryTimeline(held) as timeline:
        module.gradients(chain, module._passed(chain, estimator, steps))
    bytes_held = sum(t.nbytes for t in held)
    assert seen.here(seen.eqprop) == pytest.approx((timeline.peak - bytes_held) / 1024, rel=1e-9)


def test_eqprop_keeps_as_much_after_any_number_of_steps_and_autograd_does_not() -> None:
    few, many = data(blocks=2, steps=4), data(blocks=2, steps=40)
    assert few.here(few.eqprop) == many.here(many.eqprop)
    assert many.here(many.autograd) > 3 * few.here(few.autograd)


def test_the_sentence_says_what_is_drawn() -> None:
    explorer = ChainOfBlocks(blocks=2, estimator="one_sided", beta=0.1)
    said = explorer.describe(explorer.data, **explorer.values)
    assert f"{explorer.data.total:.1e}" in said and "2 block(s)" in said
    assert "one_sided gradient at beta 0.1" in said
    explorer.set(estimator="response")
    assert "at beta" not in explorer.describe(explorer.data, **explorer.values)
