"""Every rule as a module: it learns by itself and under the trainer, is saved, moved and refused
what it cannot be.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eqprop_lab import EqPropTrainer
from eqprop_lab.algorithms import BioplausibleModel, register_algorithm
from eqprop_lab.algorithms.feedback import Backprop
from eqprop_lab.algorithms.registry import ALGORITHMS
from eqprop_lab.datasets.splits import Split
from eqprop_lab.models.adaptive_feedback import AdaptiveFeedbackMLP
from eqprop_lab.models.equilibrium_alignment import EquilibriumAlignment
from eqprop_lab.training import CheckpointError
from tests.algorithms.networks import BOUNDS, RULES, X, Y, gradients, made

SEED_GUIDE = {
    "backprop", "eqprop", "feedback_alignment", "eq_align", "ada_fa", "cf_align", "leq_fa",
    "pc_hybrid", "eg_fa", "sparse_eq", "mom_eq", "sto_fa", "em_fa",
}  # fmt: skip


def test_the_thirteen_are_there_and_two_points_of_reference() -> None:
    assert set(RULES) == SEED_GUIDE | {"direct_feedback_alignment", "sign_symmetry"}
    assert type(BioplausibleModel("ada_fa", 4, 3, 2).rule) is AdaptiveFeedbackMLP
    assert isinstance(BioplausibleModel("eq_align", 4, 3, 2).rule, EquilibriumAlignment)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("name", RULES)
def test_every_tensor_learns_under_the_trainer_by_the_rule(name: str, bound: bool) -> None:
    model = made(name, use_spectral_norm=bound)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    fixed = {k: b.clone() for k, b in model.named_buffers() if "feedback" in k or "direct" in k}
    trainer = EqPropTrainer(model, lr=0.03, progress=False)
    history = trainer.fit(Split(X, Y).batches(8), 40)
    assert history["estimator"] == ["local"] * 40
    for key, parameter in model.named_parameters():
        # all of a tensor, not one entry of it
        assert float((parameter != before[key]).float().mean()) > 0.9, key
    for key, buffer in fixed.items():
        assert torch.equal(model.get_buffer(key), buffer), key
    assert history["train_loss"][-1] < 0.8 * history["train_loss"][0]
    if bound and name != "eq_align":
        norms = [torch.linalg.matrix_norm(w.detach(), 2) for w in model.rule.weights()[1:]]
        assert max(float(n) for n in norms) < model.rule.cap <= 0.9


@pytest.mark.parametrize("name", RULES)
def test_train_step_is_adam_on_the_local_gradients(name: str) -> None:
    model = made(name, learning_rate=0.01)
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for number in range(3):
        torch.manual_seed(number)
        found = twin.local_gradients(X, Y)
        for key, parameter in twin.named_parameters():
            parameter.grad = found[key]
        twin.before_update()
        optimizer.step()
        torch.manual_seed(number)
        metrics = model.train_step(X, Y)
        assert metrics["loss"] == pytest.approx(float(found.loss.mean()), rel=1e-6)
        assert metrics["accuracy"] == float((found.logits.argmax(1) == Y).float().mean())
    for (key, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", RULES)
def test_it_is_never_trained_by_backpropagation_unseen(name: str) -> None:
    model = made(name)
    with pytest.raises(RuntimeError, match="does not require grad"):
        F.cross_entropy(model(X), Y).backward()
    with pytest.raises(ValueError, match="gradient must be 'local' for BioplausibleModel"):
        EqPropTrainer(model, "autograd")
    assert all(p.grad is None for p in model.parameters())
    gradients(model)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("name", RULES)
def test_saved_loaded_copied_and_cast_it_is_the_same(name: str, bound: bool) -> None:
    model = made(name, use_spectral_norm=bound)
    model.train_step(X, Y)
    other = BioplausibleModel(name, 12, model.hidden_dims, 4, seed=9, use_spectral_norm=bound)
    other.load_state_dict(model.state_dict())
    wanted = gradients(model)
    for twin in (other, copy.deepcopy(model)):
        found = gradients(twin)
        for key, gradient in wanted.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6, msg=key)
        assert torch.equal(twin(X), model(X)) or bound
    # what moves with `_apply` is all there is: a cast takes every tensor along
    double = copy.deepcopy(model).double()
    for key, gradient in gradients(double).items():
        assert gradient.dtype == torch.float64
        close = {"rtol": 1e-2, "atol": 1e-4} if name != "sto_fa" else {"rtol": 1e9, "atol": 1e9}
        torch.testing.assert_close(gradient.float(), wanted[key], **close, msg=key)
    model.train_step(X, Y)
    double.train_step(X.double(), Y)
    assert all(p.dtype == torch.float64 for p in double.parameters())
    assert not _loose(model)


def _loose(model: torch.nn.Module) -> list[str]:
    """Tensors that a module holds as mere attributes, which no move and no file would take."""
    return [
        f"{path}.{key}"
        for path, module in model.named_modules()
        for key, value in vars(module).items()
        for held in (value if isinstance(value, list | tuple) else [value])
        if isinstance(held, Tensor) and not key.startswith("_")
    ]


class Cut:
    """Ends a fit in the second batch of its third epoch."""

    batches = 0

    def on_batch_end(self, trainer: Any, number: int, total: int) -> None:
        self.batches += 1
        if self.batches == 8:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["sto_fa", "ada_fa", "eqprop", "leq_fa", "eq_align"])
def test_a_resumed_training_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    def fit(model: BioplausibleModel, file: str, seed: int, **how: Any) -> None:
        torch.manual_seed(seed)
        batches = Split(X, Y).batches(3, shuffle=True, seed=1)
        path = tmp_path / file
        EqPropTrainer(model, progress=False).fit(batches, 4, checkpoint_path=path, **how)

    whole, cut, resumed = (made(name, use_spectral_norm=True) for _ in range(3))
    fit(whole, "whole", 0)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, "cut", 0, callbacks=[Cut()])
    fit(resumed, "cut", 77, resume=True)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key
    if name == "ada_fa":
        with pytest.raises(CheckpointError, match="other settings"):
            fit(made(name, use_spectral_norm=True, decay=0.1), "cut", 0, resume=True)
        with pytest.raises(CheckpointError, match="other settings"):
            fit(made(name, use_spectral_norm=True, activation="relu"), "cut", 0, resume=True)


class Mine(Backprop):
    """A rule of a user's own."""


def test_a_rule_of_ones_own_joins_the_others() -> None:
    register_algorithm("mine")(Mine)
    try:
        model = made("mine")
        assert model.train_step(X, Y)["loss"] > 0
        with pytest.raises(ValueError, match="name must be new, 'mine' is already"):
            register_algorithm("mine")(AdaptiveFeedbackMLP)
    finally:
        del ALGORITHMS["mine"]
    with pytest.raises(TypeError, match="class on LocalRule"):
        register_algorithm("linear")(torch.nn.Linear)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="non-empty string"):
        register_algorithm("")


REFUSED: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (("ada_af", 4, 3, 2), {}, ValueError, r"algorithm must be one of 'ada_fa', .*mean 'ada_fa'"),
    ((3, 4, 3, 2), {}, ValueError, "algorithm must be one of"),
    (("eqprop", 0, 3, 2), {}, ValueError, "input_dim must be an integer >= 1, got 0"),
    (("eqprop", 4, [3, 0], 2), {}, ValueError, r"hidden_dims\[1\] must be"),
    (("eqprop", 4, [], 2), {}, ValueError, "hidden_dims must be"),
    (("eqprop", 4, "3", 2), {}, TypeError, "hidden_dims must be"),
    (("eq_align", 4, [3, 3], 2), {}, ValueError, "hidden_dims must be one integer or one for each"),
    (("sto_fa", 4, 3, 2), {"drop": 1.0}, ValueError, "drop must be a finite number"),
    (("eg_fa", 4, 3, 2), {"kapa": 1.0}, ValueError, "did you mean 'kappa'"),
    (("eg_fa", 4, 3, 2), {"kappa": "much"}, TypeError, "kappa must be a number"),
    (("em_fa", 4, 3, 2), {"cost_of_activity": -1}, ValueError, "cost_of_activity must be"),
    (("ada_fa", 4, 3, 2), {"decay": 1.0}, ValueError, "decay must be"),
    (("ada_fa", 4, 3, 2), {"feedback_rate": 0.0}, ValueError, "decay must be 0 where"),
    (("eqprop", 4, 3, 2), {"beta": 0.0}, ValueError, "beta must be"),
    (("eqprop", 4, 3, 2), {"damping": 1.5}, ValueError, "damping must be"),
    (("eqprop", 4, 3, 2), {"nudges": "both"}, ValueError, "nudges must be one of 'centered'"),
    (("eqprop", 4, 3, 2), {"activation": "silu"}, ValueError, "activation must be one of 'tanh'"),
    (("mom_eq", 4, 3, 2), {"momentum": 1.0}, ValueError, "momentum must be"),
    (("sparse_eq", 4, 3, 2), {"keep": 0.0}, ValueError, "keep must be"),
    (("cf_align", 4, 3, 2), {"kappa": 2.0}, ValueError, "kappa must be"),
    (("pc_hybrid", 4, 3, 2), {"inference_rate": 0}, ValueError, "inference_rate must be"),
    (("pc_hybrid", 4, 3, 2), {"tied": 1}, TypeError, "tied must be True or False"),
    (("leq_fa", 4, 3, 2), {"lateral_steps": 0}, ValueError, "lateral_steps must be"),
    (("backprop", 4, 3, 2), {"rho": 1.0}, ValueError, "rho must be"),
    (("backprop", 4, 3, 2), {"learning_rate": 0}, ValueError, "learning_rate must be"),
    (("backprop", 4, 3, 2), {"beta": 0.1}, ValueError, "key of the options of backprop"),
]


@pytest.mark.parametrize(("sizes", "options", "kind", "message"), REFUSED)
def test_what_no_rule_can_be_is_refused(
    sizes: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        BioplausibleModel(*sizes, **options)


@pytest.mark.parametrize("name", RULES)
def test_bad_batches_are_refused(name: str) -> None:
    model = made(name)
    for x, y, message in (
        (torch.randn(8, 11), Y, "12 features"),
        (X * torch.nan, Y, "NaN"),
        (X, Y[:5], "one target per sample"),
        (X, Y + 4, "class indices"),
    ):
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match=message):
            model.train_step(x, y)
        assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.1}, "beta must be None with gradient='local', got 0.1"),
        ({"free_steps": 5}, "free_steps must be None"),
        ({"tol": 1e-3}, "tol must be None"),
        ({"cost": "mse"}, "cost must be 'cross_entropy'"),
        ({"amp": True}, "amp must be False"),
        ({"use_kernel": True}, "use_kernel must be False"),
        ({"solver": "damped"}, "solver must be None"),
    ],
)
def test_the_trainer_refuses_what_a_rule_would_not_see(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EqPropTrainer(made("eqprop"), **options)


def test_the_trainer_asks_for_a_rule() -> None:
    with pytest.raises(TypeError, match="needs a model with a learning rule"):
        EqPropTrainer(torch.nn.Linear(4, 2), "local")
    # the exact gradient of the same network is there for the asking, by its name
    aligned = EquilibriumAlignment(12, 9, 4, seed=0)
    assert EqPropTrainer(aligned, "implicit").gradient == "implicit"
    assert EqPropTrainer(aligned).gradient == "local"


def test_a_frozen_weight_gets_no_gradient() -> None:
    model = made("leq_fa", use_spectral_norm=True)
    frozen = "rule.layers.1.parametrizations.weight.original"
    model.get_parameter(frozen).requires_grad_(False)
    assert set(gradients(model)) == {n for n, _ in model.named_parameters()} - {frozen}


def test_steps_that_are_not_finite_update_nothing() -> None:
    model = made("backprop")
    with torch.no_grad():
        model.rule.layers[2].weight.fill_(3e38)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="is not finite; nothing was updated"):
        model.train_step(X, Y)
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())


def test_soft_targets_and_images_are_taken() -> None:
    model = made("feedback_alignment")
    soft = F.one_hot(Y, 4).float()
    found = model.local_gradients(X.view(8, 1, 3, 4), soft)
    for key, gradient in gradients(model).items():
        torch.testing.assert_close(found[key], gradient)
    assert model.train_step(X, soft)["loss"] > 0
