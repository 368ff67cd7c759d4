"""use_kernel=True: the kernel computes every batch, on the model's own memory, and nothing else
changes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eqprop_lab import ConvEqProp, DivergenceError, EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.training import BatchError, kernel_gradients
from eqprop_lab.training.kernel_gradients import KernelGradients

DATA = build_dataset("digits")
pytestmark = pytest.mark.filterwarnings("ignore:use_kernel=True computes with NumPy:UserWarning")


# Up to 64 units sigma's vector is converged; beyond, it is followed with rows drawn by the bits of
# the weights, so that another order of sums leads to another vector (as good, but another).
def model(hidden: int = 48, dtype: torch.dtype = torch.float64, **options: Any) -> LoopedMLP:
    return LoopedMLP(64, hidden, 10, seed=0, **options).to(dtype)


def batches(count: int, dtype: torch.dtype = torch.float64) -> list[tuple[Any, Any]]:
    x, y = DATA.train.x.to(dtype), DATA.train.y
    return [(x[i * 16 : (i + 1) * 16], y[i * 16 : (i + 1) * 16]) for i in range(count)]


def trained(use_kernel: bool, steps: int, dtype: torch.dtype, **options: Any) -> EqPropTrainer:
    trainer = EqPropTrainer(model(dtype=dtype), use_kernel=use_kernel, **options)
    for x, y in batches(steps, dtype):
        trainer.train_batch(x, y)
    return trainer


def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """The largest ||p - q|| / ||q|| of all parameters."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((p - q).detach().norm() / q.detach().norm()) for p, q in pairs)


@pytest.mark.parametrize("gradient", ["centered", "response"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_after_training_are_those_of_the_torch_path(gradient: str, optimizer: str) -> None:
    """Sigma's vector is the trainer's too, so that only the order of sums differs."""
    options = {"gradient": gradient, "optimizer": optimizer, "lr": 3e-3}
    one, other = (trained(on, 30, torch.float64, **options) for on in (True, False))
    assert apart(one.model, other.model) < 1e-10


@pytest.mark.parametrize(("cost", "soft"), [("mse", False), ("cross_entropy", True)])
def test_other_costs_and_targets(cost: str, soft: bool) -> None:
    x, y = batches(1)[0]
    targets = 2 * torch.nn.functional.one_hot(y, 10).double() if soft else y
    found: list[tuple[Any, ...]] = []
    for on in (True, False):
        trainer = EqPropTrainer(model(), cost=cost, use_kernel=on)
        found.append((*trainer.train_batch(x, targets), trainer.model))
    for one, other in zip(found[0][:3], found[1][:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-13)
    assert apart(found[0][3], found[1][3]) < 1e-10


def test_the_kernel_computes_every_batch_and_no_estimator_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    real = KernelGradients.__call__

    def counted(self: KernelGradients, x: Any, y: Any) -> Any:
        calls.append(len(x))
        return real(self, x, y)

    def forbidden(*_: Any) -> Any:
        raise AssertionError("an estimator was asked")

    monkeypatch.setattr(KernelGradients, "__call__", counted)
    monkeypatch.setattr("eqprop_lab.training.trainer.estimate", forbidden)
    EqPropTrainer(model(), use_kernel=True).fit(batches(3), epochs=2)
    assert calls == [16] * 6


def test_the_kernel_reads_the_tensors_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = EqPropTrainer(model(), use_kernel=True)
    seen: list[dict[str, np.ndarray]] = []
    kernel = trainer.kernel.kernel
    real = kernel.estimate

    def watched(x: Any, y: Any, p: dict[str, np.ndarray], v: Any) -> Any:
        seen.append(p)
        return real(x, y, p, v)

    monkeypatch.setattr(kernel, "estimate", watched)
    x, y = batches(1)[0]
    trainer.train_batch(x, y)
    for name, parameter in trainer.model.named_parameters():
        assert np.shares_memory(seen[0][name], parameter.detach().numpy())
        assert np.shares_memory(parameter.grad.numpy(), kernel._slopes)


def test_history_and_numbers_of_the_phases_are_the_same() -> None:
    one, other = (
        EqPropTrainer(model(), use_kernel=on).fit(batches(4), epochs=2, val_loader=batches(2))
        for on in (True, False)
    )
    assert one.keys() == other.keys()
    for key in one.keys() - {"seconds", "estimator"}:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-7, atol=1e-12, err_msg=key)


def test_a_step_of_a_wide_net_is_the_same() -> None:
    one, other = (EqPropTrainer(model(160), optimizer="sgd", use_kernel=on) for on in (True, False))
    for trainer in (one, other):
        trainer.train_batch(*batches(1)[0])
    assert apart(one.model, other.model) < 1e-13


def test_float32_is_near_the_torch_path() -> None:
    one, other = (trained(on, 30, torch.float32, optimizer="sgd") for on in (True, False))
    assert apart(one.model, other.model) < 1e-4
    assert all(p.dtype == torch.float32 for p in one.model.parameters())


def test_what_is_frozen_stays() -> None:
    network = model()
    network.W_in.weight.requires_grad_(False)
    before = network.W_in.weight.clone()
    trainer = EqPropTrainer(network, use_kernel=True)
    trainer.train_batch(*batches(1)[0])
    assert torch.equal(before, network.W_in.weight) and network.W_in.weight.grad is None
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="model must have a parameter to train"):
        trainer.train_batch(*batches(1)[0])


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = EqPropTrainer(model(), use_kernel=True)
    whole.fit(batches(3), epochs=2)
    first = EqPropTrainer(model(), use_kernel=True)
    first.fit(batches(3), epochs=1, checkpoint_path=tmp_path / "c.pt")
    second = EqPropTrainer(model(), use_kernel=True)
    second.load_checkpoint(tmp_path / "c.pt")
    second.fit(batches(3), epochs=1)
    assert apart(second.model, whole.model) == 0
    assert whole.describe()["use_kernel"] is True
    assert "use_kernel" not in EqPropTrainer(model()).describe()


class Own(LoopedMLP):
    """A subclass, whatever it does."""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gradient": "implicit"}, "gradient, which must be centered or response; got implicit"),
        ({"tol": 1e-3}, "tol, which must be None; got 0.001"),
        ({"solver": "chebyshev"}, "solver, which must be picard; got chebyshev"),
        ({"beta": "auto"}, "beta, which must be a number; got auto"),
        ({"amp": True, "gradient": "response"}, "amp, which must be False; got True"),
        ({"use_compile": True}, "use_compile, which must be False; got True"),
    ],
)
def test_what_the_kernel_cannot_express_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"use_kernel=True does not go with this {named}"):
        EqPropTrainer(model(dtype=torch.float32), use_kernel=True, **options)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (Own(64, 8, 10), "model, .* got Own"),
        (ConvEqProp(1, 8, 10, image_size=8), "model, .* got ConvEqProp"),
        (LoopedMLP(64, 8, 10, symmetric=False), "symmetric, which must be True; got False"),
        (LoopedMLP(64, 8, 10).bfloat16(), "dtype, .* got torch.bfloat16"),
        (LoopedMLP(64, 8, 10).to("meta"), "device, which must be cpu .* got meta"),
    ],
)
def test_so_are_other_models(network: torch.nn.Module, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        EqPropTrainer(network, "response", use_kernel=True)


def test_a_model_that_is_cast_later_is_refused() -> None:
    trainer = EqPropTrainer(model(), use_kernel=True)
    trainer.model.float()
    with pytest.raises(ValueError, match="set up for a model of torch.float64"):
        trainer.train_batch(*batches(1, torch.float32)[0])


def test_bad_batches_are_refused_in_the_trainers_words() -> None:
    trainer = EqPropTrainer(model(), use_kernel=True)
    x, y = batches(1)[0]
    with pytest.raises(BatchError, match="epoch 1, batch 1: y must hold class indices 0..9"):
        trainer.fit([(x, y + 1)], epochs=1)
    with pytest.raises(TypeError, match="x has dtype torch.float32, the model has torch.float64"):
        trainer.train_batch(x.float(), y)
    trainer.model.W_in.weight.data.fill_(torch.nan)
    with pytest.raises(DivergenceError, match="the free phase diverged"):
        trainer.train_batch(x, y)


def test_it_says_once_that_there_is_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_gradients, "_cupy", lambda: (False, "CuPy does not import: no"))
    kernel_gradients.say_without_cupy.cache_clear()
    with pytest.warns(UserWarning, match="NumPy on CPU tensors: CuPy does not import: no"):
        EqPropTrainer(model(), use_kernel=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        EqPropTrainer(model(), use_kernel=True)
    assert not told
