"""Frozen weights belong to the relaxation that took them: threads, copies and exceptions leave a
model as it was.
"""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import ConvEqProp, EqPropTrainer, EquilibriumModel, LoopedMLP, relax
from eqprop_lab.equilibrium.view import ModelView
from eqprop_lab.models import DeepEqProp
from eqprop_lab.models.single_state import SingleStateConv

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(4) % 3


class Own(EquilibriumModel):
    """A model of somebody's own that freezes through the documented attribute."""

    def __init__(self) -> None:
        super().__init__(max_steps=10)
        self.output_dim = 3
        self.W = nn.Parameter(0.05 * torch.ones(64, 64))

    def effective_weights(self) -> dict[str, Tensor]:
        return {"W": 2 * self.W}

    def drive(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x.flatten(1),)

    def initial_state(self, drive: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.zeros_like(drive[0]),)

    def force(self, state: tuple[Tensor, ...], drive: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        weights = self.effective_weights() if self._frozen is None else self._frozen
        return (state[0] @ weights["W"] / 64 + drive[0],)

    def readout(self, state: tuple[Tensor, ...]) -> Tensor:
        return state[0][:, :3]

    def activate(self, a: Tensor) -> Tensor:
        return torch.tanh(a)


MODELS: dict[str, Callable[[], EquilibriumModel]] = {
    "looped": lambda: LoopedMLP(64, 12, 3, seed=0),
    "conv": lambda: ConvEqProp(1, 4, 3, image_size=8, seed=0),
    "deep": lambda: DeepEqProp(64, 12, 3, seed=0),
    "single": lambda: SingleStateConv(1, 4, 3, image_size=8, seed=0),
    "own": Own,
    "view": lambda: ModelView(LoopedMLP(64, 12, 3, seed=0)),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> EquilibriumModel:
    return MODELS[request.param]()


def owner(model: EquilibriumModel) -> EquilibriumModel:
    return model.model if isinstance(model, ModelView) else model


@torch.no_grad()
def change(model: EquilibriumModel) -> None:
    for parameter in owner(model).parameters():
        parameter.mul_(1.5)


@torch.no_grad()
def fresh(model: EquilibriumModel) -> bool:
    """Whether a relaxation sees what the parameters say now: it agrees with a model made anew from
    them.
    """
    own, logits = owner(model), model(X)
    twin = next(
        make() for name, make in MODELS.items() if name != "view" and type(make()) is type(own)
    )
    twin.load_state_dict(own.state_dict())
    # a view takes its steps by another way, to rounding; stale weights are far more off
    return torch.allclose(logits, twin(X), rtol=0, atol=1e-6)


def entered(model: EquilibriumModel) -> AbstractContextManager[None]:
    body = model.frozen_weights()
    body.__enter__()
    return body


def in_thread(run: Callable[[], object]) -> object:
    """What run() returns or raises in a thread of its own."""
    result: list[object] = []
    thread = threading.Thread(target=lambda: result.append(run()))
    thread.start()
    thread.join()
    return result[0]


def test_exits_in_the_order_of_the_entries_leave_nothing_behind(model: EquilibriumModel) -> None:
    first = entered(model)
    second = entered(model)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    change(model)
    assert fresh(model)


def test_interleaved_threads_leave_nothing_behind(model: EquilibriumModel) -> None:
    outer = entered(model)
    inner = in_thread(lambda: entered(model))
    outer.__exit__(None, None, None)
    in_thread(lambda: inner.__exit__(None, None, None))  # type: ignore[attr-defined]
    change(model)
    assert fresh(model) and in_thread(lambda: fresh(model))


def test_an_exit_in_another_thread_frees_the_one_that_entered(model: EquilibriumModel) -> None:
    body = entered(model)
    in_thread(lambda: body.__exit__(None, None, None))
    change(model)
    assert fresh(model)


def test_another_thread_sees_the_weights_of_now_and_not_those_frozen_here(
    model: EquilibriumModel,
) -> None:
    with model.frozen_weights():
        change(model)
        assert in_thread(lambda: fresh(model)) and not fresh(model)
    assert fresh(model)


def test_an_exception_inside_and_nesting_leave_nothing_behind(model: EquilibriumModel) -> None:
    with pytest.raises(KeyError), model.frozen_weights(), model.frozen_weights():
        raise KeyError
    change(model)
    assert fresh(model)
    with model.frozen_weights():
        kept = owner(model)._frozen
        with model.frozen_weights():
            assert owner(model)._frozen is kept
        assert owner(model)._frozen is kept is not None
    assert owner(model)._frozen is None


def test_a_failing_evaluation_of_the_weights_freezes_nothing(model: EquilibriumModel) -> None:
    held, of = owner(model), type(owner(model))

    def broken(self: EquilibriumModel) -> dict[str, Tensor]:
        raise ValueError("no weights")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, "effective_weights", broken)
        with pytest.raises(ValueError, match="no weights"), model.frozen_weights():
            pass
    assert held._frozen is None and fresh(model)


def test_a_copy_made_inside_is_not_frozen(model: EquilibriumModel) -> None:
    with owner(model).frozen_weights():
        twin = copy.deepcopy(owner(model))
    change(twin)
    assert fresh(twin)


def test_a_pickle_made_inside_is_not_frozen() -> None:
    model = Own()  # torch itself refuses to pickle parametrised modules
    with model.frozen_weights():
        twin = pickle.loads(pickle.dumps(model))
    change(twin)
    assert fresh(twin)


def test_two_models_freeze_each_their_own() -> None:
    one, two = MODELS["looped"](), MODELS["looped"]()
    with one.frozen_weights(), two.frozen_weights():
        assert one._frozen is not two._frozen
        with one.frozen_weights():
            pass
        assert two._frozen is not None
    assert one._frozen is two._frozen is None


def test_readers_beside_a_fit_end_with_the_weights_that_were_trained(
    model: EquilibriumModel,
) -> None:
    if isinstance(model, ModelView):
        pytest.skip("a view has no parameters to train")
    stop, errors = threading.Event(), []

    def read() -> None:
        try:
            while not stop.is_set():
                relax(model, X)
        except Exception as error:  # what a reader met is the test's to show
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        EqPropTrainer(model, lr=1e-2, progress=False).fit([(X, Y)] * 6, epochs=1)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not errors and model._frozen is None
    assert fresh(model)
    change(model)
    assert fresh(model)
