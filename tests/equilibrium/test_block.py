"""EquilibriumBlock: a network with an equilibrium inside gets the gradient that autograd would give
it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import LoopedMLP
from eqprop_lab.equilibrium.block import EquilibriumBlock

SETTLED = {"free_steps": 800, "nudged_steps": 800, "tol": 1e-13}


def network(block: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), block, nn.Tanh(), nn.Linear(4, 3)).double()


def gradients(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    return {name.replace("2.model.", "2."): p.grad.clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize(
    "estimator", ["centered", "response", "implicit", "asymmetric", "holomorphic", "bptt"]
)
def test_the_whole_network_gets_the_exact_gradient(estimator: str) -> None:
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    unrolled = network(LoopedMLP(7, 16, 4, seed=0, max_steps=400))
    block = network(EquilibriumBlock(LoopedMLP(7, 16, 4, seed=0), estimator, beta=0.003, **SETTLED))
    exact, got = gradients(unrolled, x, y), gradients(block, x, y)
    assert exact.keys() == got.keys() and "0.weight" in got and "2.W_in.weight" in got
    for name, value in exact.items():
        assert torch.linalg.vector_norm(got[name] - value) <= 1e-5 * torch.linalg.vector_norm(
            value
        ), name


def test_the_gradient_scales_with_the_cotangent_down_to_nothing() -> None:
    block = EquilibriumBlock(LoopedMLP(5, 8, 3, seed=0).double(), **SETTLED)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    found = [torch.autograd.grad((size * block(x)).sum(), x)[0] for size in (1.0, 1e-9, 0.0)]
    torch.testing.assert_close(found[1] * 1e9, found[0], rtol=1e-9, atol=1e-12)
    assert not found[2].any() and found[2].shape == x.shape


def test_an_input_without_gradients_and_frozen_parameters_are_respected() -> None:
    model = LoopedMLP(5, 8, 3, seed=0)
    model.W_in.weight.requires_grad_(False)
    EquilibriumBlock(model)(torch.randn(4, 5)).sum().backward()
    assert model.W_in.weight.grad is None and model.W_out.weight.grad is not None


def test_bad_settings_are_named_and_printing_says_what_it_is() -> None:
    with pytest.raises(ValueError, match="did you mean 'centered'"):
        EquilibriumBlock(LoopedMLP(2, 2, 2), "centred")
    with pytest.raises(ValueError, match="beta"):
        EquilibriumBlock(LoopedMLP(2, 2, 2), beta=0.0)
    with pytest.raises(ValueError, match="5 features"):
        EquilibriumBlock(LoopedMLP(5, 2, 2))(torch.zeros(1, 4))
    assert "estimator='response'" in repr(EquilibriumBlock(LoopedMLP(2, 2, 2), "response"))


def parameter(block: EquilibriumBlock, x: Tensor) -> Tensor:
    return block.model.W_out.weight  # type: ignore[union-attr, return-value]


def bounded(block: EquilibriumBlock, x: Tensor) -> Tensor:
    return block.get_parameter("model.W_rec.parametrizations.weight.original")


@pytest.mark.parametrize("written", [parameter, bounded, lambda block, x: x])
def test_what_is_written_to_between_the_passes_is_an_error(written: Callable[..., Tensor]) -> None:
    block, x = EquilibriumBlock(LoopedMLP(5, 8, 3, seed=0)), torch.randn(4, 5)
    loss = block(x).square().sum()
    with torch.no_grad():
        written(block, x).mul_(1.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("of", ["input", "parameter"])
def test_a_gradient_of_the_gradient_is_refused(of: str) -> None:
    block, x = EquilibriumBlock(LoopedMLP(5, 8, 3, seed=0)), torch.randn(4, 5, requires_grad=True)
    output = block(x)
    by = x if of == "input" else block.model.get_parameter("W_out.weight")
    (gradient,) = torch.autograd.grad(output.square().sum(), by, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        (output.sum() + gradient.square().sum()).backward()
