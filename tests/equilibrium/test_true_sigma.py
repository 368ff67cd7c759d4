"""The gradient of a bounded weight is that of what is trained: sigma's vectors are right, also
after a training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from eqprop_lab import (
    ConvEqProp,
    EqPropTrainer,
    EquilibriumModel,
    LoopedMLP,
    check_gradient,
    estimate_gradients,
)
from eqprop_lab.equilibrium import sigma_vector, top_vectors
from eqprop_lab.equilibrium.block import EquilibriumBlock
from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.equilibrium.spectral import bounded_weights, follow_updates, sigma_error
from eqprop_lab.equilibrium.top_vectors import converge
from eqprop_lab.instruments.exact_sigma import right_vector, sigma_errors
from eqprop_lab.instruments.gradient_check import exact_gradients
from eqprop_lab.models import DeepEqProp
from tests.benchmarks.gradient_errors import RHOS, errors, subjects, trained

X = torch.rand(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 3
SETTLED = {"free_steps": 20_000, "nudged_steps": 20_000, "tol": 1e-12}


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rho", RHOS)
def test_a_trained_network_has_the_gradient_of_its_true_norm(rho: float) -> None:
    for name, make in subjects((rho,)):
        found = errors(trained(make(), epochs=2, samples=320)[0], ("response", "centered"))
        assert found["response"] <= 1e-6 and found["centered"] <= 1e-4, (name, found)


def near_pair(model: EquilibriumModel, sizes: tuple[float, ...]) -> EquilibriumModel:
    """The model with the singular values `sizes` at the top of its bounded dense weights."""
    with torch.no_grad():
        for _, _, held in bounded_weights(model):
            u, s, vh = torch.linalg.svd(random(tuple(held.original.shape), 3), full_matrices=False)
            s = torch.cat(
                [torch.tensor(sizes, dtype=s.dtype), 0.9 * sizes[-1] * s[len(sizes) :] / s[0]]
            )
            held.original.copy_(u @ torch.diag(s) @ vh)
    return model


@pytest.mark.parametrize(
    "sizes", [(2.4547, 2.4484), (2.4547, 2.454), (1.0, 0.99999, 0.9999, 0.999)]
)
@pytest.mark.parametrize("symmetric", [True, False, None])
def test_near_equal_top_values_are_told_apart(
    sizes: tuple[float, ...], symmetric: bool | None
) -> None:
    if symmetric is None:
        model: EquilibriumModel = DeepEqProp(64, [20, 16], 3, gamma=1.0, rho=0.99, seed=0).double()
        near_pair(model, sizes)
    else:
        model = LoopedMLP(64, 20, 3, rho=0.9, seed=0, symmetric=symmetric).double()
        near_pair(model, sizes)
        if symmetric:
            with torch.no_grad():
                ((_, _, held),) = bounded_weights(model)
                u = torch.linalg.qr(random((20, 20), 1)).Q
                # a pair of opposite signs too
                signs = torch.tensor([1.0, -1.0] * 10, dtype=torch.float64)
                values = torch.cat(
                    [torch.tensor(sizes).double(), torch.linspace(0, 0.8, 20 - len(sizes)).double()]
                )
                held.original.copy_(u @ torch.diag(signs * values) @ u.T)
    estimator = "implicit" if symmetric is False else "response"
    table = check_gradient(model, X, Y, estimator, **SETTLED)
    assert table.worst <= 1e-6 and max(table.sigma.values()) <= 1e-6


def test_a_vector_half_way_between_a_near_pair_is_far_off_and_the_reference_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = near_pair(
        DeepEqProp(64, [20, 16], 3, gamma=1.0, rho=0.99, seed=0).double(), (2.4547, 2.4484)
    )
    ((_, bound, held),) = bounded_weights(model)
    top = converge(bound._operator(held.original.detach()), random((4, 20), 0)).rows
    monkeypatch.setattr(
        type(bound), "top", lambda self, weight: (top[0] + 0.4 * top[1]) / 1.16**0.5
    )
    table = check_gradient(model, X, Y, "response", **SETTLED)
    assert table.worst > 0.01 and max(table.sigma.values()) > 0.1


def test_the_two_ways_of_the_reference_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConvEqProp(1, [6, 8], 3, gamma=1.0, image_size=8, seed=0).double()
    ((_, bound, held),) = bounded_weights(model)
    dense = right_vector(bound, held.original)
    monkeypatch.setattr("eqprop_lab.instruments.exact_sigma.DENSE_UP_TO", 0)
    arpack = right_vector(bound, held.original)
    assert abs(float(torch.dot(dense, arpack))) == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize("size", [600, 900])
@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-6, 0.0])
def test_long_vectors_converge_to_the_stated_angle(size: int, gap: float) -> None:
    basis = torch.linalg.qr(random((size, size), 0)).Q
    values = torch.linspace(-1, 1, size, dtype=torch.float64) * 0.95
    values[0], values[1] = -1.0, -(1.0 - gap)
    matrix = basis @ torch.diag(values) @ basis.T
    found = converge(lambda rows: rows @ matrix, random((4, size), 1))
    assert float(found.values[0]) == pytest.approx(-1.0, rel=1e-12)
    inside = basis[:, :1] if gap else basis[:, :2]
    assert float((found.rows[0] @ inside).norm()) == pytest.approx(1, abs=1e-10)
    assert found.angle <= 1e-9 if gap >= 1e-3 else found.exhausted


def test_a_start_orthogonal_to_the_top_vector_finds_it() -> None:
    values = torch.full((700,), 0.5, dtype=torch.float64)
    values[13] = 1.5
    weight = torch.diag(values)
    ((_, bound, held),) = bounded_weights(LoopedMLP(4, 700, 2, seed=0).double())
    bound.basis = torch.eye(700, dtype=torch.float64)[:, 100:108]
    assert float(bound.converged(weight).values[0]) == pytest.approx(1.5, rel=1e-12)


def test_the_trainer_states_the_error_of_its_own_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [(X.float(), Y)] * 6
    model = LoopedMLP(64, 80, 3, seed=0)
    history = EqPropTrainer(model, lr=1e-2, progress=False).fit(batches, 2)
    assert len(history["sigma_error"]) == 2 and history["sigma_error"][-1] == sigma_error(model)
    independent = sigma_errors(model, following=True)
    assert (
        sigma_error(model) == pytest.approx(independent["W_rec.weight"], rel=1e-3)
        and sigma_error(model) < 1e-2
    )
    # The mistake: a block that stands still while the weights move.
    monkeypatch.setattr(
        sigma_vector, "follow", lambda operator, rows, fresh: converge(lambda r: r, rows)
    )
    stuck = EqPropTrainer(LoopedMLP(64, 80, 3, seed=0), lr=1e-2, progress=False).fit(batches, 1)
    assert stuck["sigma_error"][0] > 1e-2


def test_a_small_network_is_trained_with_the_converged_vector() -> None:
    # All eigenvectors of a small matrix cost what following a few does; a loop of one's own then
    # trains the same.
    model, twin = LoopedMLP(64, 64, 3, seed=0), LoopedMLP(64, 64, 3, seed=0)
    history = EqPropTrainer(model, lr=1e-2, progress=False).fit([(X.float(), Y)] * 4, 2)
    optimiser = torch.optim.Adam(twin.parameters(), 1e-2, fused=True)  # the trainer's own kernel
    for _ in range(8):
        gradients = estimate_gradients(twin, X.float(), Y)
        for name, parameter in twin.named_parameters():
            parameter.grad = gradients[name]
        optimiser.step()
    assert max(history["sigma_error"]) <= 1e-6
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) <= 1e-6


def test_a_model_without_bounded_weights_states_none() -> None:
    model = LoopedMLP(64, 8, 3, use_spectral_norm=False, seed=0)
    history = EqPropTrainer(model, progress=False).fit([(X.float(), Y)], 1)
    assert history["sigma_error"][0] != history["sigma_error"][0]


def test_looking_at_the_gradient_does_not_change_a_training() -> None:
    def fitted(callbacks: tuple[Callable[[object], object], ...]) -> dict[str, Tensor]:
        model.load_state_dict(start)
        EqPropTrainer(model, lr=1e-2, progress=False).fit(
            [(X.float(), Y)] * 3, 3, callbacks=callbacks
        )
        return {key: value.clone() for key, value in model.state_dict().items()}

    model = LoopedMLP(64, 24, 3, seed=0)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    alone = fitted(())
    watched = fitted(
        (lambda record: check_gradient(model, X.float(), Y), lambda record: model(X.float()))
    )
    assert all(torch.equal(alone[key], watched[key]) for key in alone)


def test_forward_and_backward_of_a_block_use_the_same_vectors() -> None:
    model = LoopedMLP(64, 24, 3, seed=0, max_steps=400).double()
    block = EquilibriumBlock(model, "response", nudged_steps=400)
    with torch.no_grad():
        for _, _, held in bounded_weights(model):
            held.original += 0.1 * random(tuple(held.original.shape), 2)
    torch.nn.functional.cross_entropy(block(X), Y).backward()
    exact = exact_gradients(model, X, Y)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, exact[name], rtol=1e-6, atol=1e-9)


def test_a_training_step_reads_what_was_followed_and_everybody_else_what_is_converged() -> None:
    model = LoopedMLP(64, 80, 3, seed=0).double()
    follow_updates(bounded_weights(model))
    with torch.no_grad():
        for _, _, held in bounded_weights(model):
            held.original += 0.003 * random(tuple(held.original.shape), 2)
    follow_updates(bounded_weights(model))
    assert (
        max(sigma_errors(model, following=False).values())
        <= 1e-9
        < max(sigma_errors(model, following=True).values())
    )
    with tracked():
        followed = estimate_gradients(model, X, Y, "response", **SETTLED)
    exact = estimate_gradients(model, X, Y, "response", **SETTLED)
    name = "W_rec.parametrizations.weight.original"
    assert 0 < float((followed[name] - exact[name]).norm() / exact[name].norm()) < 0.1


def moved_block(moved: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric matrix, and the top block of one that it has moved from with a drawn row."""
    draw, n = torch.Generator().manual_seed(0), 90
    a = torch.randn(n, n, generator=draw, dtype=torch.float64)
    b = a + moved * torch.randn(n, n, generator=draw, dtype=torch.float64)
    values, vectors = torch.linalg.eigh((a + a.T) / 2)
    block = vectors[:, values.abs().argsort(descending=True)[:8]].T
    fresh = torch.randn(1, n, generator=draw, dtype=torch.float64)
    return ((b + b.T) / 2).to(dtype), torch.cat([block, fresh]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("moved", [1e-2, 1e-4])
def test_a_round_finds_what_its_space_has(dtype: torch.dtype, moved: float) -> None:
    """Against Rayleigh-Ritz by an orthonormal basis of [V, R, A R], all in float64."""
    matrix, begin = moved_block(moved, dtype)
    wide, v = matrix.double(), torch.linalg.qr(begin.double().T).Q
    rest = wide @ v - v @ (v.T @ wide @ v)
    basis = torch.linalg.qr(torch.cat([v, rest, wide @ rest], 1)).Q
    values, turn = torch.linalg.eigh(basis.T @ wide @ basis)
    order = values.abs().argsort(descending=True)[:8]
    expected = (basis @ turn[:, order]).T
    found, before = top_vectors.gram_round(lambda rows: rows @ matrix, begin, 8)
    rounding = 20 * torch.finfo(dtype).eps
    first = begin[0].double()
    assert before == pytest.approx(float((first @ wide @ first).abs()), rel=rounding)
    assert found.rows.dtype == found.values.dtype == dtype
    torch.testing.assert_close(found.values.double(), values[order], rtol=rounding, atol=0)
    ones = found.rows @ found.rows.T
    assert float((ones - torch.eye(8, dtype=dtype)).abs().max()) < rounding
    assert float(((found.rows.double() * expected).sum(1).abs() - 1).abs().max()) < rounding


def test_the_space_of_a_round_is_the_same_of_arrays_and_tensors() -> None:
    matrix, begin = moved_block(1e-2, torch.float64)
    of_tensors = top_vectors._krylov(lambda rows: rows @ matrix, begin, torch.cat)
    of_arrays = top_vectors._krylov(
        lambda rows: rows @ matrix.numpy(), begin.numpy(), np.concatenate
    )
    for tensors, arrays in zip(of_tensors, of_arrays, strict=True):
        torch.testing.assert_close(tensors, torch.from_numpy(arrays))
    sizes = of_tensors[0].norm(dim=1)
    torch.testing.assert_close(sizes, torch.ones_like(sizes))


def test_a_block_that_needs_no_mending_loses_nothing() -> None:
    """R = 0 and A R = 0 are left out of the space; no NaN comes of their length."""
    matrix = torch.diag(torch.arange(1.0, 31.0))
    begin = torch.eye(30).flip(0)[:9]
    found, before = top_vectors.gram_round(lambda rows: rows @ matrix, begin, 8)
    torch.testing.assert_close(found.values, torch.arange(30.0, 22.0, -1.0))
    assert before == 30 and torch.equal(found.rows.abs(), begin[:8])
