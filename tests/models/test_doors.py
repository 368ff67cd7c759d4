"""Whatever writes the weights, the bound holds at the next use, and what is used is what belongs to
them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import ConvEqProp, EquilibriumModel, LoopedMLP, estimate_gradients
from eqprop_lab.equilibrium.sigma_vector import tracked
from eqprop_lab.equilibrium.spectral import (
    Bounded,
    BoundedNorm,
    Bounds,
    bounded_weights,
    follow_updates,
)
from eqprop_lab.models import DeepEqProp
from eqprop_lab.models.single_state import SingleStateConv
from eqprop_lab.training.soundness import check_parameters_fit

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 2])
MODELS: dict[str, Callable[[], EquilibriumModel]] = {
    "looped": lambda: LoopedMLP(64, 48, 3, rho=0.9, seed=0),
    "directed": lambda: LoopedMLP(64, 20, 3, rho=0.7, seed=0, symmetric=False),
    "conv": lambda: ConvEqProp(1, [6, 8], 3, gamma=1.0, rho=0.9, image_size=8, seed=0),
    # beyond the dense search
    "wide": lambda: ConvEqProp(1, [12, 4], 3, gamma=1.0, rho=0.7, image_size=8, seed=0),
    "deep": lambda: DeepEqProp(64, [20, 12], 3, gamma=1.0, rho=0.7, seed=0),
    "single": lambda: SingleStateConv(1, 4, 3, rho=0.7, image_size=8, seed=0),
}


def random(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)


def matrix(bound: nn.Module, weight: Tensor) -> Tensor:
    """The whole map of a weight, float64, from unit vectors."""
    weight = weight.detach().double()
    if isinstance(bound, BoundedNorm):
        return weight
    assert isinstance(bound, Bounded)
    units = torch.eye(bound._rows().shape[1], dtype=torch.float64).unflatten(
        1, bound.linear.in_shape
    )
    return bound.linear.up(units, weight).flatten(1).T


def excess(model: EquilibriumModel) -> float:
    """The largest norm of an effective weight over its cap, by dense singular values."""
    worst = 0.0
    for name, bound, _ in bounded_weights(model):
        module, _, leaf = name.rpartition(".")
        effective = getattr(model.get_submodule(module), leaf)
        assert bool(torch.isfinite(effective).all()) and bound.cap is not None
        worst = max(
            worst, float(torch.linalg.matrix_norm(matrix(bound, effective), ord=2)) / bound.cap
        )
    return worst


def originals(bounds: Bounds) -> list[Tensor]:
    return [held.original.data for _, _, held in bounds]


def hidden(bound: nn.Module, weight: Tensor, factor: float = 5.0) -> Tensor:
    """A change of rank one, orthogonal to every vector of the block (a matrix's; convolutions get a
    random one).
    """
    if not isinstance(bound, BoundedNorm):
        return factor * random(weight, 7)
    v = random(weight, 7)[0]
    rows = bound._rows()
    v = v - (v @ rows.T) @ rows
    return factor * torch.outer(v, v) / v.square().sum()


def loaded_without_vectors(model: EquilibriumModel) -> EquilibriumModel:
    state = {
        k: 12 * v
        for k, v in model.state_dict().items()
        if not k.endswith(("basis", "size", "square"))
    }
    model.load_state_dict(state, strict=False)
    return model


def loaded_then_changed(model: EquilibriumModel) -> EquilibriumModel:
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    return changed(lambda bound, w: w.mul_(-3).add_(random(w, 3)))(model)


def loaded_vectors_of_another(model: EquilibriumModel) -> EquilibriumModel:
    state = model.state_dict()
    state |= {k: random(v, 1) for k, v in state.items() if k.endswith("original")}
    model.load_state_dict(state)
    return model


def changed(
    change: Callable[[nn.Module, Tensor], object],
) -> Callable[[EquilibriumModel], EquilibriumModel]:
    def write(model: EquilibriumModel) -> EquilibriumModel:
        with torch.no_grad():
            for _, bound, held in bounded_weights(model):
                change(bound, held.original)
        return model

    return write


def replaced(model: EquilibriumModel) -> EquilibriumModel:
    for _, _, held in bounded_weights(model):
        held.original = nn.Parameter(4 * random(held.original, 2))
    return model


def permuted(model: EquilibriumModel) -> EquilibriumModel:
    """The same numbers in another order, written past the version counter: the same ||W||_F."""
    for weight in originals(bounded_weights(model)):
        flat = weight.flatten()
        weight.copy_(flat.sort().values.view_as(weight))
    return model


def averaged(model: EquilibriumModel) -> EquilibriumModel:
    mean = torch.optim.swa_utils.AveragedModel(model, avg_fn=lambda a, b, n: -9 * a + b)
    for _ in range(2):
        mean.update_parameters(replaced(model))
    assert isinstance(mean.module, EquilibriumModel)
    return mean.module


def from_vector(model: EquilibriumModel) -> EquilibriumModel:
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(3 * random(vector, 4), model.parameters())
    return model


def swapped(model: EquilibriumModel) -> EquilibriumModel:
    for _, _, held in bounded_weights(model):
        torch.utils.swap_tensors(held.original, nn.Parameter(4 * random(held.original, 2)))
    return model


def descended(model: EquilibriumModel) -> EquilibriumModel:
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0)
    for name, gradient in estimate_gradients(
        model, X.to(next(model.parameters()))[..., :], Y
    ).items():
        model.get_parameter(name).grad = gradient
    optimizer.step()
    return model


DOORS: dict[str, Callable[[EquilibriumModel], EquilibriumModel]] = {
    "load without vectors": loaded_without_vectors,
    "load, then in place": loaded_then_changed,
    "load vectors of another": loaded_vectors_of_another,
    "deepcopy, then in place": lambda model: loaded_then_changed(copy.deepcopy(model)),
    "deepcopy": copy.deepcopy,
    "double": lambda model: model.double(),
    "float": lambda model: model.double().float(),
    "zero": changed(lambda bound, w: w.zero_()),
    "nearly zero": changed(lambda bound, w: w.mul_(1e-30)),
    "huge": changed(lambda bound, w: w.mul_(1e12)),
    "parameter replaced": replaced,
    "data replaced": changed(lambda bound, w: setattr(w, "data", 4 * random(w, 2))),
    "data copied": changed(lambda bound, w: w.data.copy_(4 * random(w, 2))),
    "permuted": permuted,
    "swapped": swapped,
    "averaged": averaged,
    "vector": from_vector,
    "step": descended,
    "hidden direction": changed(lambda bound, w: w.add_(hidden(bound, w))),
    "hidden direction, small": changed(lambda bound, w: w.add_(hidden(bound, w, 1.2))),
    "one entry": changed(lambda bound, w: w.view(-1)[:1].fill_(50.0)),
    "identity": changed(
        lambda bound, w: w.copy_(torch.eye(w.flatten(1).shape[0], w.flatten(1).shape[1]).view_as(w))
    ),
    "30 per cent": changed(
        lambda bound, w: w.add_(0.3 * w.norm() * random(w, 5) / random(w, 5).norm())
    ),
    "15 per cent": changed(
        lambda bound, w: w.add_(0.15 * w.norm() * random(w, 5) / random(w, 5).norm())
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_norm_passes_its_cap_whoever_wrote_the_weights(
    name: str, door: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().to(dtype)
    assert excess(model) < 1
    model = DOORS[door](model)
    for reading in (False, True):  # as anybody does, and as a training step does
        with tracked(reading):
            assert excess(model) < 1
    follow_updates(bounded_weights(model))
    with tracked():
        assert excess(model) < 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", MODELS)
def test_an_update_is_followed_whoever_made_it(name: str, door: str) -> None:
    model = MODELS[name]()
    with tracked():
        assert excess(model) < 1
        model = DOORS[door](model)
        follow_updates(bounded_weights(model))
        assert excess(model) < 1


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_is_the_same_function_to_the_bit(name: str) -> None:
    model = MODELS[name]()
    changed(lambda bound, w: w.add_(0.1 * random(w, 1)))(model)
    for reading in (False, True):
        with torch.no_grad(), tracked(reading):
            expected = model(X)
            assert torch.equal(copy.deepcopy(model)(X), expected)
    model(X)
    twin = MODELS[name]()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad(), tracked():
        assert torch.equal(twin(X), model(X))


@pytest.mark.parametrize("name", MODELS)
def test_reading_moves_nothing_that_a_training_step_uses(name: str) -> None:
    model = MODELS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    changed(lambda bound, w: w.add_(0.05 * random(w, 1)))(model)
    model(X), model.contraction_bound(), estimate_gradients(model, X, Y)
    after = model.state_dict()
    assert all(
        torch.equal(before[key], after[key]) for key in before if not key.endswith("original")
    )


STORED = {
    "looped": {"basis": (48, 8), "size": ()},
    "directed": {"basis": (20, 8), "size": ()},
    "conv": {"basis": (4, 6, 8, 8), "square": ()},
    "wide": {"basis": (4, 12, 8, 8), "square": ()},
    "deep": {"basis": (4, 20), "square": ()},
    "single": {"basis": (4, 4, 8, 8), "square": ()},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_block_is_stored_as_every_version_has_stored_it(name: str) -> None:
    state = MODELS[name]().state_dict()
    block = {key.rpartition(".")[2]: value for key, value in state.items() if ".0." in key}
    found = {leaf: tuple(value.shape) for leaf, value in block.items()}
    assert {leaf: found.get(leaf) for leaf in STORED[name]} == STORED[name]


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_fewer_vectors_loads(name: str) -> None:
    model, twin = MODELS[name](), MODELS[name]()
    state = model.state_dict()
    for key in [key for key in state if key.endswith("basis")]:
        state[key] = (
            state[key][:, :4].clone() if name in ("looped", "directed") else state[key][:2].clone()
        )
    check_parameters_fit(twin, state)
    twin.load_state_dict(state)
    torch.testing.assert_close(twin(X), model(X))
    assert excess(twin) < 1
    follow_updates(bounded_weights(twin))
    assert all(
        twin.state_dict()[key].shape == value.shape for key, value in model.state_dict().items()
    )
    state[key] = torch.zeros(3, 1, 2)
    with pytest.raises(ValueError, match="basis is float32"):
        check_parameters_fit(twin, state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        twin.load_state_dict(state)


def test_threads_that_follow_at_once_leave_a_block_that_belongs() -> None:
    model = MODELS["looped"]()
    ((_, bound, held),) = bounded_weights(model)
    for step in range(20):
        held.original.data.add_(0.01 * random(held.original, step))
        threads = [threading.Thread(target=bound.follow, args=(held.original,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = bound._rows()
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
        with tracked():
            assert excess(model) < 1
