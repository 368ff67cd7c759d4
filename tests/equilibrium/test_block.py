"""EquilibriumBlock: a network with an equilibrium inside gets the gradient that autograd would give
it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import ConvergenceWarning, LoopedMLP
from eqprop_lab.equilibrium import block as module
from eqprop_lab.equilibrium.block import EquilibriumBlock, reporting
from eqprop_lab.equilibrium.contrast import Estimate

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


@pytest.mark.parametrize("estimator", ["centered", "response", "implicit", "asymmetric"])
def test_a_backward_pass_that_goes_on_from_the_forward_state_is_as_good_as_one_from_the_start(
    estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> dict[str, Tensor]:
        core = LoopedMLP(7, 16, 4, seed=0)
        return gradients(network(EquilibriumBlock(core, estimator, **SETTLED)), x, y)

    x, y = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    started: list[int] = []
    begun = LoopedMLP.initial_state
    monkeypatch.setattr(
        LoopedMLP,
        "initial_state",
        lambda *of: started.append(1) or begun(*of),  # type: ignore[func-returns-value]
    )
    quick, once = found(), len(started)
    monkeypatch.setattr(module, "_From", lambda model, start: model)
    monkeypatch.setattr(module, "AGAIN", 800)
    for name, value in found().items():
        torch.testing.assert_close(quick[name], value, rtol=1e-9, atol=1e-12)
    assert once == 1 and len(started) == 3


def test_few_steps_forward_are_still_told_of_after_a_few_more_backward() -> None:
    core = LoopedMLP(5, 8, 3, seed=0, rho=0.99)
    with torch.no_grad():
        core.get_parameter("W_rec.parametrizations.weight.original").mul_(50)
    output = EquilibriumBlock(core, free_steps=1, nudged_steps=800)(torch.randn(4, 5) / 100)
    with pytest.warns(ConvergenceWarning, match="free phase has not settled"):
        output.square().sum().backward()


def test_who_listens_gets_the_estimates_of_all_blocks_and_nobody_is_warned() -> None:
    net = nn.Sequential(
        *(EquilibriumBlock(LoopedMLP(5, 8, 5, seed=k), tol=1e-12, free_steps=2) for k in (0, 1))
    )
    heard: list[Estimate] = []
    with reporting(heard.append):
        output = net(torch.randn(4, 5))
        with reporting(lambda found: None):
            pass
        inner = net(torch.randn(4, 5)).sum()
    inner.backward()
    assert len(heard) == 2 and all(found.missed for found in heard)
    output.sum().backward()  # who listened in the forward pass hears of the backward pass
    assert len(heard) == 4
    with pytest.warns(ConvergenceWarning, match="not converged"):
        net(torch.randn(4, 5)).sum().backward()
    assert len(heard) == 4


def test_an_estimate_that_is_refused_leaves_no_listener_behind() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), reporting(lambda found: None):
        raise RuntimeError("on purpose")
    with pytest.warns(ConvergenceWarning):
        EquilibriumBlock(LoopedMLP(5, 8, 5, seed=0), tol=1e-12, free_steps=2)(torch.randn(4, 5))


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
