"""The trainer trains with the estimator it names, records what happened, stops on what fails."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from eqprop_lab import (
    BackpropMLP,
    ConvEqProp,
    EqPropTrainer,
    LoopedMLP,
    StopTraining,
    build_dataset,
    estimate_gradients,
)
from eqprop_lab.models.backprop import BackpropCNN
from eqprop_lab.training import BatchError

DATA = build_dataset("digits")


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (DATA.train.x[i * 16 : (i + 1) * 16], DATA.train.y[i * 16 : (i + 1) * 16])
        for i in range(count)
    ]


def test_eqprop_learns_digits() -> None:
    model = LoopedMLP(64, 64, 10, seed=0)
    trainer = EqPropTrainer(model, lr=3e-3)
    history = trainer.fit(
        DATA.train.batches(32, shuffle=True), epochs=6, val_loader=DATA.validation.batches(90)
    )
    assert history["val_accuracy"][-1] >= 0.9
    assert history["train_loss"][-1] < 0.3 * history["train_loss"][0]
    assert history["estimator"] == ["centered"] * 6 and history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert all(norm < model.rho for norm in history["norm"])
    assert all(0 < residual < 0.1 for residual in history["residual"])
    assert all(seconds > 0 for seconds in history["seconds"])


def test_a_step_uses_exactly_the_estimated_gradient() -> None:
    model = LoopedMLP(64, 16, 10, seed=0)
    x, y = batches(1)[0]
    expected = estimate_gradients(model, x, y, "centered", beta=0.1, free_steps=12, nudged_steps=6)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = EqPropTrainer(
        model,
        optimizer=lambda ps: torch.optim.SGD(ps, lr=0.5),
        beta=0.1,
        free_steps=12,
        nudged_steps=6,
    )
    trainer.fit([(x, y)], epochs=1)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 0.5 * expected[name])


def test_every_parameter_moves() -> None:
    for model, gradient in (
        (LoopedMLP(64, 16, 10), "centered"),
        (BackpropMLP(64, 16, 10), "autograd"),
    ):
        before = [p.detach().clone() for p in model.parameters()]
        EqPropTrainer(model, gradient=gradient).fit(batches(), epochs=1)
        assert all(
            not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
        )


def test_backprop_twin_is_trained_by_the_same_loop() -> None:
    trainer = EqPropTrainer(BackpropMLP(64, 64, 10, seed=0), gradient="autograd", lr=3e-3)
    history = trainer.fit(
        DATA.train.batches(32, shuffle=True), epochs=4, val_loader=DATA.validation.batches(90)
    )
    assert history["val_accuracy"][-1] >= 0.9
    assert math.isnan(history["norm"][-1]) and math.isnan(history["residual"][-1])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_named_optimisers_lower_the_cost(optimizer: str) -> None:
    trainer = EqPropTrainer(
        LoopedMLP(64, 32, 10, seed=0), optimizer=optimizer, lr=1e-2, weight_decay=1e-4
    )
    history = trainer.fit(batches(20), epochs=3)
    assert history["train_loss"][-1] < history["train_loss"][0]


@pytest.mark.parametrize(("schedule", "peak"), [("one_cycle", 7), ("cosine", 0)])
def test_schedules_end_low(schedule: str, peak: int) -> None:
    trainer = EqPropTrainer(LoopedMLP(64, 8, 10), lr=0.01, schedule=schedule)
    rates: list[float] = []

    class Watch:
        def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer.fit(batches(10), epochs=2, callbacks=[Watch()])
    assert (
        max(rates) == pytest.approx(0.01, rel=0.05)
        and rates.index(max(rates)) <= peak
        and rates[-1] < 2e-4
    )
    with pytest.raises(TypeError, match="needs a train_loader with a length"):
        trainer.fit(iter(batches(2)), epochs=1)


def test_a_second_fit_goes_on_counting() -> None:
    trainer = EqPropTrainer(LoopedMLP(64, 8, 10))
    trainer.fit(batches(1), epochs=2)
    assert trainer.fit(batches(1), epochs=1)["epoch"] == [1, 2, 3]


def test_training_is_reproducible() -> None:
    def final() -> torch.Tensor:
        model = LoopedMLP(64, 16, 10, seed=3)
        EqPropTrainer(model).fit(DATA.train.batches(64, shuffle=True, seed=3), epochs=1)
        return model.W_rec.weight.detach()

    assert torch.equal(final(), final())


def test_evaluate_counts_every_sample_and_changes_nothing() -> None:
    model = LoopedMLP(64, 16, 10, seed=0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = EqPropTrainer(model).evaluate(DATA.test.batches(100))
    logits = model(DATA.test.x)
    assert result["accuracy"] == pytest.approx(
        (logits.argmax(1) == DATA.test.y).float().mean().item()
    )
    assert result["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, DATA.test.y).item(), rel=1e-5
    )
    assert result["samples"] == 360 and 0 < result["residual"] < 1e-2
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_callbacks_see_epochs_and_batches_and_can_stop() -> None:
    class Watcher:
        seen: list[Any] = []

        def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
            self.seen.append((batch, batches))
            if len(trainer.history.get("epoch", [])) == 1 and batch == 2:
                raise StopTraining

        def on_epoch_end(self, trainer: EqPropTrainer, record: dict[str, Any]) -> None:
            self.seen.append(record["epoch"])

    records: list[dict[str, Any]] = []
    history = EqPropTrainer(LoopedMLP(64, 8, 10)).fit(
        batches(3), epochs=5, callbacks=[Watcher(), records.append]
    )
    assert Watcher.seen == [(1, 3), (2, 3), (3, 3), 1, (1, 3), (2, 3)]
    assert len(records) == 1 and records[0]["train_loss"] == history["train_loss"][0]


def test_a_bad_batch_stops_with_its_number_and_keeps_the_history() -> None:
    trainer = EqPropTrainer(LoopedMLP(64, 8, 10))
    trainer.fit(batches(2), epochs=1)
    bad = [*batches(2), (torch.full((4, 64), math.nan), torch.zeros(4, dtype=torch.long))]
    with pytest.raises(BatchError, match=r"epoch 2, batch 3: x holds NaN") as caught:
        trainer.fit(bad, epochs=1)
    assert isinstance(caught.value.__cause__, ValueError)
    assert trainer.history["epoch"] == [1]
    with pytest.raises(BatchError, match="evaluation, batch 3"):
        trainer.evaluate(bad)


def test_a_cost_that_is_not_finite_updates_nothing() -> None:
    model = BackpropMLP(64, 8, 10)
    with torch.no_grad():
        model.layers[0].weight.fill_(math.inf)
    with pytest.raises(BatchError, match="cost is not finite"):
        EqPropTrainer(model, gradient="autograd").fit(batches(1), epochs=1)


def test_mean_squared_error_trains_too() -> None:
    one_hot = [(x, torch.nn.functional.one_hot(y, 10).float()) for x, y in batches(20)]
    history = EqPropTrainer(LoopedMLP(64, 32, 10, seed=0), cost="mse", lr=3e-3).fit(
        one_hot, epochs=4
    )
    assert history["train_accuracy"][-1] > history["train_accuracy"][0]
    assert history["train_loss"][-1] < history["train_loss"][0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gradient": "centred"}, ValueError, "did you mean 'centered'"),
        ({"optimizer": "adamm"}, ValueError, "optimizer"),
        ({"lr": 0.0}, ValueError, "lr"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay"),
        ({"cost": "hinge"}, ValueError, "cost"),
        ({"free_steps": 0}, ValueError, "free_steps"),
        ({"schedule": "linear"}, ValueError, "schedule"),
    ],
)
def test_bad_settings_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EqPropTrainer(LoopedMLP(64, 8, 10), **change)


def test_other_misuse_is_named() -> None:
    with pytest.raises(TypeError, match="gradient='autograd'"):
        EqPropTrainer(BackpropMLP(64, 8, 10))
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        EqPropTrainer("model")  # type: ignore[arg-type]
    trainer = EqPropTrainer(LoopedMLP(64, 8, 10))
    with pytest.raises(ValueError, match="epochs"):
        trainer.fit(batches(1), epochs=0)
    with pytest.raises(ValueError, match="train_loader is empty"):
        trainer.fit([], epochs=1)
    with pytest.raises(ValueError, match="loader is empty"):
        trainer.evaluate([])
    with pytest.raises(TypeError, match="callbacks"):
        trainer.fit(batches(1), epochs=1, callbacks=[3])


@pytest.mark.parametrize(("hidden", "lr"), [(128, 6e-3), (96, 0.1)])
def test_the_norm_stays_below_rho_after_every_batch_of_a_fast_training(
    hidden: int, lr: float
) -> None:
    # Adam's first, large updates make the top eigenvector move faster than a plain subspace step
    # follows.
    norms: list[float] = []

    class Watch:
        def on_batch_end(self, trainer: EqPropTrainer, batch: int, batches: int | None) -> None:
            norms.append(trainer.model.contraction_bound())

    trainer = EqPropTrainer(
        LoopedMLP(64, hidden, 10, rho=0.9, seed=0), lr=lr, free_steps=8, nudged_steps=4
    )
    trainer.fit(DATA.train.batches(32, shuffle=True), epochs=2, callbacks=[Watch()])
    assert len(norms) == 80 and max(norms) < 0.9


@pytest.mark.parametrize("gradient", ["centered", "response", "bptt"])
def test_a_gradient_lies_in_memory_as_its_parameter_does(gradient: str) -> None:
    # A fused optimiser pairs the numbers of a gradient and its parameter by their place in memory.
    model = ConvEqProp(2, [3, 4], 3, image_size=8, seed=0)
    trainer = EqPropTrainer(
        model, gradient, "sgd", 0.1, free_steps=5, nudged_steps=5, progress=False
    )
    x, y = torch.rand(4, 2, 8, 8), torch.tensor([0, 1, 2, 0])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    expected = estimate_gradients(model, x, y, gradient, free_steps=5, nudged_steps=5)
    trainer.train_batch(x, y)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.stride() == parameter.stride()
        torch.testing.assert_close(
            parameter.detach(), before[name] - 0.1 * expected[name], rtol=1e-5, atol=1e-7
        )


def test_an_evaluation_stops_at_its_residual_and_says_it() -> None:
    model = ConvEqProp(1, 4, 10, image_size=8, seed=0, max_steps=200)
    loader = build_dataset("digits").validation.batches(90)
    counted = []
    step = model.step
    model.step = lambda *arguments: counted.append(1) or step(*arguments)  # type: ignore[method-assign, func-returns-value]
    result = EqPropTrainer(model, eval_tol=1e-4, progress=False).evaluate(loader)
    assert result["residual"] <= 1e-4 and len(counted) < 2 * 40
    counted.clear()
    assert EqPropTrainer(model, progress=False).evaluate(loader)["residual"] < 1e-5
    assert len(counted) == 2 * 200
    with pytest.raises(ValueError, match="eval_tol must be a finite number > 0"):
        EqPropTrainer(model, eval_tol=0.0)


@pytest.mark.parametrize("kind", ["eqprop", "backprop"])
def test_quick_kernels_train_as_in_the_plain_layout(kind: str) -> None:
    def make(quick: bool) -> EqPropTrainer:
        if kind == "eqprop":
            return EqPropTrainer(
                ConvEqProp(3, [4, 6], 4, image_size=8, seed=0), quick_kernels=quick
            )
        twin = BackpropCNN(3, [4, 6], 4, image_size=8, seed=0)
        return EqPropTrainer(twin, gradient="autograd", quick_kernels=quick)

    quick, plain = make(True), make(False)
    wide = [p for p in quick.model.parameters() if p.ndim == 4]
    assert wide and all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        x, y = torch.rand(16, 3, 8, 8, generator=generator), torch.arange(16) % 4
        quick.train_batch(x, y)
        plain.train_batch(x, y)
    for mine, its in zip(quick.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(mine, its, rtol=1e-4, atol=1e-5)
