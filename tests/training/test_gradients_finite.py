"""A gradient that is not finite updates nothing, and the error says where it came from."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import BackpropMLP, ConvEqProp, EqPropTrainer, LoopedMLP
from eqprop_lab.equilibrium.gradients import ESTIMATORS
from eqprop_lab.training import BatchError, trainer as trainer_module
from eqprop_lab.training.checkpoint import capture
from eqprop_lab.training.finite import check_step

X, Y = torch.rand(8, 64, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4


class Spoiled(torch.autograd.Function):
    """The identity, with a gradient of one value: a finite cost, and a gradient that is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(gradients[0], ctx.value), None


class Net(nn.Module):
    """Batch normalisation moves its statistics in the forward pass, before anybody knows the
    gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
        self.value: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layers[:3](x)
        return self.layers[3](hidden if self.value is None else Spoiled.apply(hidden, self.value))


def frozen(trainer: EqPropTrainer) -> dict[str, Any]:
    """Everything a batch may change: weights, buffers, optimiser, schedule, history."""
    return copy.deepcopy(
        {
            key: value
            for key, value in capture(trainer.state).items()
            if key not in ("plan", "rng", "sources")
        }
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_spoiled_gradient_of_autograd_updates_nothing(
    value: float, clip_norm: float | None, optimizer: str
) -> None:
    model = Net()
    trainer = EqPropTrainer(model, "autograd", optimizer, clip_norm=clip_norm, schedule="one_cycle")
    trainer.fit([(X, Y)] * 3, 1)
    seen: list[Any] = []

    class Spoiler:
        def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
            if batch == 2:
                model.value = value
                seen.append(frozen(trainer))

    with pytest.raises(
        BatchError, match=r"epoch 2, batch 3: the gradient of layers\.0\.weight is not finite"
    ) as caught:
        trainer.fit([(X, Y)] * 3, 1, callbacks=[Spoiler()])
    assert "nothing was updated" in str(caught.value)
    assert same(seen[0], frozen(trainer))
    model.value = None
    assert math.isfinite(trainer.fit([(X, Y)] * 3, 1)["train_loss"][-1])


MODELS = {
    "looped": lambda: LoopedMLP(64, 8, 4, seed=0),
    "conv": lambda: ConvEqProp(1, [2, 3], 4, image_size=8, seed=0),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("estimator", [*ESTIMATORS, "autograd"])
def test_a_spoiled_gradient_of_an_estimator_updates_nothing(
    kind: str, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = X if kind == "looped" else X.reshape(8, 1, 8, 8)
    trainer = EqPropTrainer(MODELS[kind](), estimator, free_steps=6, nudged_steps=4)
    trainer.train_batch(x, Y)
    before = frozen(trainer)
    name = list(trainer.parameters)[-1]
    if estimator == "autograd":
        handle = trainer.parameters[name].register_hook(lambda gradient: gradient * math.nan)
    else:
        genuine = trainer_module.estimate

        def spoil(*arguments: Any, **options: Any) -> Any:
            result, loss = genuine(*arguments, **options)
            result.gradients[name].view(-1)[0] = math.nan
            return result, loss

        monkeypatch.setattr(trainer_module, "estimate", spoil)
    spoiled = trainer.parameters[name].numel() if estimator == "autograd" else 1
    with pytest.raises(
        ValueError, match=rf"the gradient of {name} is not finite \({spoiled} of \d+ values\)"
    ):
        trainer.train_batch(x, Y)
    assert same(before, frozen(trainer))
    if estimator == "autograd":
        handle.remove()


def test_a_batch_that_spoils_the_cost_leaves_the_statistics_of_batch_normalisation() -> None:
    trainer = EqPropTrainer(Net(), "autograd")
    trainer.train_batch(X, Y)
    before = frozen(trainer)
    with pytest.raises(ValueError, match="the cost is not finite; nothing was updated"):
        trainer.train_batch(X * math.inf, Y)
    assert same(before, frozen(trainer))


def test_a_batch_that_raises_leaves_the_statistics_of_batch_normalisation() -> None:
    trainer = EqPropTrainer(Net(), "autograd")
    trainer.train_batch(X, Y)
    before = frozen(trainer)
    with pytest.raises(ValueError, match="y"):
        trainer.train_batch(X, Y + 100)
    assert same(before, frozen(trainer))


def test_large_finite_gradients_train_as_they_are_and_cannot_be_clipped() -> None:
    def trainer(**options: Any) -> EqPropTrainer:
        return EqPropTrainer(
            BackpropMLP(64, 8, 4, seed=0),
            "autograd",
            lambda ps: torch.optim.SGD(ps, 1e-30),
            **options,
        )

    huge = trainer()
    for parameter in huge.model.parameters():
        parameter.register_hook(lambda gradient: torch.full_like(gradient, 1e30))
    before = [parameter.detach().clone() for parameter in huge.model.parameters()]
    huge.train_batch(X, Y)
    for old, new in zip(before, huge.model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old - 1.0)
    clipped = trainer(clip_norm=1.0)
    for parameter in clipped.model.parameters():
        parameter.register_hook(lambda gradient: torch.full_like(gradient, 1e30))
    state = frozen(clipped)
    with pytest.raises(
        ValueError, match="norm of the gradient is too large for float32.*nothing was updated"
    ):
        clipped.train_batch(X, Y)
    assert same(state, frozen(clipped))


def test_sparse_gradients_are_looked_at_too() -> None:
    table, top = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)
    loss = top(table(torch.tensor([1, 2, 2]))).sum(1)
    loss.mean().backward()
    named = {"table": table.weight, "top": top.weight}
    assert torch.isclose(
        check_step(loss, named), torch.cat([p.grad.to_dense() for p in named.values()]).norm()
    )
    table.weight.grad = table.weight.grad.mul(math.nan)
    with pytest.raises(ValueError, match=r"the gradient of table is not finite \(6 of 6 values\)"):
        check_step(loss, named)


def test_weights_that_overflow_in_an_update_end_the_epoch_by_name() -> None:
    trainer = EqPropTrainer(
        BackpropMLP(64, 8, 4, seed=0), "autograd", lambda ps: torch.optim.SGD(ps, 1e38)
    )
    trainer.parameters["layers.4.bias"].register_hook(
        lambda gradient: torch.full_like(gradient, 1e5)
    )
    with pytest.raises(
        BatchError, match=r"epoch 1, after its last batch: parameter layers\.\d\.\w+ is not finite"
    ):
        trainer.fit([(X, Y)], 1)
    with pytest.raises(
        BatchError, match=r"epoch 1, batch 1: the cost is not finite, and parameter layers"
    ):
        trainer.fit([(X, Y)], 1)
    assert trainer.history == {}
