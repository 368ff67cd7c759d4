"""Language models under the one trainer: every parameter moves, figures are those computed by hand,
a fit goes on bit for bit, blocks obey it, and threads may share a model.
"""

from __future__ import annotations

import itertools
import math
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eqprop_lab import (
    ConvergenceWarning,
    EqPropTrainer,
    StopTraining,
    Vocabulary,
    relax,
)
from eqprop_lab.datasets.token_batches import TokenBatches
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from tests.models.language.small import (
    MODELS,
    TWINS,
    VARIANTS,
    WHOLE,
    B,
    T,
    V,
    X,
    Y,
    cores,
    gradient_of,
    trained,
)

VOCAB = Vocabulary(tuple("abcdefghijk"))


def loader(shuffle: bool, count: int = 100, **options: Any) -> TokenBatches:
    text = torch.randint(V, (count,), generator=torch.Generator().manual_seed(3))
    return TokenBatches(text, T, 4, shuffle, 0, VOCAB, **options)


def trainer(name: str, **options: Any) -> EqPropTrainer:
    return EqPropTrainer(MODELS[name](), gradient_of(name), **{"lr": 0.01, **options})


@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_every_parameter_moves_in_one_step(name: str) -> None:
    train = trainer(name, optimizer="sgd", lr=1.0)
    before = {key: p.detach().clone() for key, p in train.model.named_parameters()}
    x = torch.arange(B * T).reshape(B, T) % V  # every token is there
    train.train_batch(x, Y)
    still = [key for key, p in train.model.named_parameters() if torch.equal(p, before[key])]
    assert not still


@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_training_mode_changes_nothing(name: str) -> None:
    model = MODELS[name]()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(model.train()(X), model.eval()(X))
    assert torch.equal(torch.get_rng_state(), before)  # and nothing was drawn
    assert not [m for m in model.modules() if "Dropout" in type(m).__name__]


@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_a_batch_is_learned(name: str) -> None:
    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(model(X).flatten(0, 1), Y.flatten()))

    assert loss(trained(name, 30)) < loss(MODELS[name]()) - 0.5


class Seen:
    """The batches that a model was given."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __call__(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.batches.append(given[0].clone())


def test_twins_see_the_same_batches_in_the_same_order() -> None:
    seen = {}
    for name in ("hybrid", "full", "attention_only", "transformer"):
        train = trainer(name)
        seen[name] = Seen()
        embedding = train.model.get_submodule("embedding.token")
        embedding.register_forward_pre_hook(seen[name])
        train.fit(loader(shuffle=True), 2)
    unique = {
        name: [batch for batch, _ in itertools.groupby(s.batches, key=lambda b: b.tolist())]
        for name, s in seen.items()
    }
    assert unique["transformer"] == unique["hybrid"] == unique["full"] == unique["attention_only"]
    assert len(unique["transformer"]) == 2 * len(loader(shuffle=True)) > 2


@pytest.mark.parametrize("name", [*VARIANTS, *TWINS])
def test_an_evaluation_is_the_mean_over_all_tokens_of_all_windows(name: str) -> None:
    train = trainer(name)
    batches = loader(shuffle=False, count=60, characters_per_token=2.0)
    widths = [x.shape[1] for x, _ in batches]
    assert widths[-1] < T and widths[0] == T
    found = train.evaluate(batches)
    nats, right, tokens = 0.0, 0, 0
    with torch.no_grad():
        for x, y in batches:
            logs = train.model(x).double().log_softmax(-1)
            for sample, place in itertools.product(range(len(x)), range(x.shape[1])):
                nats -= float(logs[sample, place, y[sample, place]])
                right += int(logs[sample, place].argmax() == y[sample, place])
                tokens += 1
    assert found["samples"] == tokens == 59
    assert found["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert found["accuracy"] == right / tokens
    assert found["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(nats / tokens / math.log(2) / 2, rel=1e-5)
    assert math.isnan(found["residual"]) == (name in TWINS)


@pytest.mark.parametrize("name", ["hybrid", "attention_only", "transformer"])
def test_a_history_has_the_figures_of_text_after_every_epoch(name: str) -> None:
    history = trainer(name).fit(loader(shuffle=True), 2, loader(shuffle=False, count=40))
    for key in ("loss", "accuracy", "perplexity", "bits_per_character", "residual"):
        assert len(history[f"val_{key}"]) == 2
        assert math.isnan(history[f"val_{key}"][-1]) == (name in TWINS and key == "residual")
    assert history["val_perplexity"][1] == pytest.approx(math.exp(history["val_loss"][1]))
    assert math.isnan(history["norm"][0]) == (name in TWINS)
    assert 0 < history["train_accuracy"][0] < 1  # a share of tokens


class StopAfter:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, train: EqPropTrainer, record: dict[str, Any]) -> None:
        if record["epoch"] == self.epoch:
            raise StopTraining


@pytest.mark.parametrize("name", ["hybrid", "full", "attention_only"])
def test_a_fit_that_goes_on_is_the_fit_that_was_not_interrupted(name: str, tmp_path: Path) -> None:
    def fitted(path: Path, *stops: StopAfter, resume: bool = False) -> EqPropTrainer:
        torch.manual_seed(len(stops) + resume)
        train = trainer(name, schedule="cosine", clip_norm=1.0)
        train.fit(
            loader(shuffle=True), 3, loader(shuffle=False, count=40), stops,
            checkpoint_path=path, resume=resume,
        )  # fmt: skip
        return train

    whole = fitted(tmp_path / "whole.pt", StopAfter(99))
    fitted(tmp_path / "part.pt", StopAfter(2))
    rest = fitted(tmp_path / "part.pt", StopAfter(99), resume=True)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[key]), key
    for key, curve in whole.history.items():
        if key != "seconds":
            assert repr(curve) == repr(rest.history[key]), key
    assert rest.history.epochs == 3


def test_nothing_asked_for_is_the_estimator_that_suits_the_model() -> None:
    suits = {name: EqPropTrainer(MODELS[name]()).gradient for name in VARIANTS}
    assert suits == {
        "full": "asymmetric",
        "recurrent_core": "asymmetric",
        "hybrid": "centered",
        "looped_mlp": "centered",
        "attention_only": "centered",
    }
    with pytest.raises(TypeError, match="ordinary modules train with gradient='autograd'"):
        EqPropTrainer(MODELS["transformer"]())


def test_blocks_take_the_estimator_and_the_phases_of_the_trainer() -> None:
    model = MODELS["attention_only"]()
    assert isinstance(model, EqPropAttentionOnlyLM)
    EqPropTrainer(model, "response", beta=0.07, free_steps=4, nudged_steps=6, tol=1e-3)
    for layer in model._layers():
        settings = layer.settle.settings
        assert layer.settle.estimator == "response" and settings.beta == 0.07
        assert (settings.free_steps, settings.nudged_steps, settings.tol) == (4, 6, 1e-3)
    EqPropTrainer(model, "autograd")  # keeps what the blocks have
    assert all(layer.settle.estimator == "response" for layer in model._layers())
    with pytest.raises(ValueError, match="nudged_steps"):
        EqPropTrainer(model, "response", nudged_steps=0)


def test_an_evaluation_settles_blocks_as_it_settles_models() -> None:
    model = MODELS["attention_only"]()
    assert isinstance(model, EqPropAttentionOnlyLM)
    few = EqPropTrainer(model, free_steps=1)
    batches = [(X, Y)]
    full = few.evaluate(batches)
    assert (
        full["residual"] == pytest.approx(model.residual(X), rel=1e-3) and full["residual"] < 1e-4
    )
    loose = EqPropTrainer(model, free_steps=1, eval_tol=0.05).evaluate(batches)
    assert 1e-3 < loose["residual"] <= 0.05 and loose["loss"] != full["loss"]
    for core in cores(model):
        core.max_steps = 1
    with pytest.warns(ConvergenceWarning, match="not converged"):
        EqPropTrainer(model, free_steps=1, eval_tol=1e-6).evaluate(batches)


def test_unsettled_blocks_are_told_of_once_an_epoch() -> None:
    train = trainer("attention_only", free_steps=1, nudged_steps=1, tol=1e-9)
    batches = loader(shuffle=True)
    assert len(batches) > 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train.fit(batches, 2)
    texts = [str(w.message) for w in told if issubclass(w.category, ConvergenceWarning)]
    assert len(texts) == 2 and "epoch 1:" in texts[0] and "epoch 2:" in texts[1]
    assert train.history["residual"][0] > 0


@pytest.mark.parametrize("name", WHOLE)
def test_threads_may_relax_a_model_while_it_is_trained(name: str) -> None:
    train = trainer(name)
    model, faults, done = train.model, [], threading.Event()
    assert isinstance(model, EquilibriumModel)

    def use() -> None:
        try:
            while not done.is_set():
                end = relax(model, X, 5)
                assert all(bool(torch.isfinite(block).all()) for block in end.state)
        except BaseException as error:
            faults.append(error)

    users = [threading.Thread(target=use) for _ in range(2)]
    for user in users:
        user.start()
    try:
        for _ in range(8):
            train.train_batch(X, Y)
    finally:
        done.set()
        for user in users:
            user.join()
    assert not faults
    # and what the trainer made of it is what it makes alone
    alone = trainer(name)
    for _ in range(8):
        alone.train_batch(X, Y)
    for one, two in zip(model.parameters(), alone.model.parameters(), strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4)
