"""Trained language models: what is loaded is what was saved, symbols included, and a file that
cannot be used is refused by name before anything is built.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eqprop_lab import EqPropTrainer, list_trained, load_trained, save_trained, trained_info
from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.experiments import trained
from eqprop_lab.experiments.rebuilding import CLASSIFIER, KINDS, kind_name
from eqprop_lab.models.language.looped import HybridEqPropLM
from eqprop_lab.models.language.transformer_eqprop import TransformerEqProp
from tests.models.language.small import MODELS, TWINS, VARIANTS, B, D, T, V, X, Y, gradient_of

SYMBOLS = Vocabulary("abcdefgh \né")
assert len(SYMBOLS) == V
INFO: dict[str, Any] = {
    "dataset": "a text",
    "recipe": {"lr": 0.01, "steps": 3},
    "estimator": "centered",
    "seed": 3,
    "validation_loss": 2.0,
    "test_loss": 2.1,
    "validation_bits_per_character": 2.0 / math.log(2),
    "test_bits_per_character": 2.1 / math.log(2),
    "versions": {"torch": "2.13.0"},
    "date": "2026-11-26",
    "device": "CPU, 1 thread",
}
SORTS = TransformerEqProp.__name__ + CLASSIFIER
BUILT: dict[str, Any] = MODELS | {
    "transformer_eqprop": lambda: TransformerEqProp(V, D, 2, T, inner_dim=24, seed=0),
    "classifier": lambda: TransformerEqProp(V, D, 2, T, num_classes=4, inner_dim=24, seed=0),
}
STORED = (*VARIANTS, *TWINS, "transformer_eqprop", "classifier")
# Not what a class takes by itself, so that an argument that is lost is seen.
SETTINGS: dict[str, dict[str, Any]] = {"hybrid": {"rho": 0.7}, "looped_mlp": {"rho": 0.6}}
STEADY = {"max_steps": 23, "num_heads": 2}
TARGETS = {"classifier": torch.tensor([2, 0, 3])}


def small(name: str) -> Any:
    """A model a few updates from its start, no argument at its default."""
    first = BUILT[name]()
    kind = KINDS[kind_name(first)]
    params = kind.arguments(first) | {"seed": 3} | SETTINGS.get(name, {})
    params |= {key: value for key, value in STEADY.items() if key in params}
    model: Any = kind.build(**params)
    if kind.reads:
        model.vocab = SYMBOLS
    trainer = EqPropTrainer(model, gradient_of(name), lr=0.02, progress=False)
    trainer.fit([(X, TARGETS.get(name, Y))] * 3, 1)
    return model


def info_of(name: str) -> dict[str, Any]:
    accuracies = {"validation_accuracy": 0.5, "test_accuracy": 0.4}
    return INFO | accuracies if name == "classifier" else INFO


@pytest.fixture
def model() -> HybridEqPropLM:
    found = small("hybrid")
    assert isinstance(found, HybridEqPropLM)
    return found


@pytest.fixture
def file(model: HybridEqPropLM, tmp_path: Path) -> Path:
    return save_trained(model, tmp_path / "new" / "net.safetensors", INFO)


def header_of(file: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(
        trained.safe_open(file, framework="pt").metadata()[trained.METADATA]
    )
    return header


def rewritten(file: Path, change: Any, tensors: dict[str, Tensor] | None = None) -> Path:
    """The file with another header, or other tensors, under a fingerprint of its own."""
    header, held = header_of(file), load_file(file) | (tensors or {})
    change(header)
    header["fingerprint"] = trained.seal(held, header)
    save_file(held, file, {trained.METADATA: json.dumps(header)})
    return file


@pytest.mark.parametrize("name", STORED)
def test_what_is_loaded_is_what_was_saved(name: str, tmp_path: Path) -> None:
    model = small(name)
    file = save_trained(model, tmp_path / "net.safetensors", info_of(name))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaded = load_trained(file)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(loaded) is type(model) and not loaded.training
    own, state = model.state_dict(), loaded.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in own.items())
    with torch.no_grad():
        assert torch.equal(loaded(X), model.eval()(X))
    arguments = KINDS[kind_name(model)].arguments
    assert arguments(loaded) == arguments(model)
    assert loaded.given_vocab == (None if name == "classifier" else SYMBOLS)
    again = save_trained(loaded, tmp_path / "again.safetensors", info_of(name))
    assert again.read_bytes() == file.read_bytes()
    trainer = EqPropTrainer(loaded, gradient_of(name), lr=0.02, progress=False)
    if name not in TWINS:
        assert arguments(loaded)["max_steps"] == 23
        assert loaded.contraction_bound() == model.contraction_bound() < 1
    trainer.fit([(X, TARGETS.get(name, Y))], 1)
    assert name in TWINS or loaded.contraction_bound() < 1


def test_a_transformer_that_sorts_is_no_language_model_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    sorts, reads = (
        save_trained(small(name), tmp_path / f"{name}.safetensors", info_of(name))
        for name in ("classifier", "transformer_eqprop")
    )
    told = trained_info(sorts)
    assert (told["model"], told["test_accuracy"], told["params"]["num_classes"]) == (SORTS, 0.4, 4)
    assert "vocab" not in told and load_trained(sorts).num_classes == 4
    assert load_trained(reads).generate("abc", 4, temperature=0).startswith("abc")
    with pytest.raises(ValueError, match="missing: validation_accuracy, test_accuracy"):
        save_trained(small("classifier"), tmp_path / "no.safetensors", INFO)

    def classes(header: dict[str, Any]) -> None:
        header["params"]["num_classes"] = V

    with pytest.raises(trained.TrainedError, match=f"build a {SORTS}, not a TransformerEqProp"):
        load_trained(rewritten(reads, classes))
    with pytest.raises(trained.TrainedError, match=r"W_out.weight is \(4, 32\), not \(11, 32\)"):
        load_trained(rewritten(sorts, classes))


def test_the_header_says_what_it_is(file: Path, model: HybridEqPropLM) -> None:
    info = trained_info(file)
    assert {key: info[key] for key in INFO} == INFO and "test_accuracy" not in info
    assert info["model"] == "HybridEqPropLM" and info["vocab"] == SYMBOLS.state
    assert info["parameters"] == sum(p.numel() for p in model.parameters())
    assert info["params"] == {
        "vocab_size": V,
        "hidden_dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "max_seq_len": T,
        "inner_dim": 20,
        "rho": 0.7,
        "max_steps": 23,
        "seed": 3,
    }


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"vocab_size": 10**9}, "its vocabulary is none of its model: .* got 11 for"),
    ({"hidden_dim": 10**9}, r"embedding.token.weight is \(11, 16\), not \(11, 1000000000\)"),
    ({"max_seq_len": 10**9}, r"embedding.position.weight is \(9, 16\)"),
    ({"inner_dim": 10**9}, r"W_rec.* is \(20, 20\), not \(1000000000, 1000000000\)"),
    ({"inner_dim": None}, r"W_rec.* is \(20, 20\), not \(None, None\)"),
    ({"num_layers": 10**9}, r"blocks.1.up.weight is None"),
    ({"num_layers": 1}, "weights are not those of its params"),
    ({"num_layers": "2"}, "build no HybridEqPropLM: "),
    ({"num_heads": 10**9}, "build no HybridEqPropLM: num_heads must divide"),
    ({"num_heads": 4}, r"weights are not those of its params .*'num_heads': 4"),
    ({"hidden_dim": 16.0}, "build no HybridEqPropLM: hidden_dim must be"),
    ({"rho": 2.0}, "build no HybridEqPropLM: .*rho"),
    ({"max_steps": 0}, "build no HybridEqPropLM: max_steps must be"),
    ({"width": 3}, "build no HybridEqPropLM: .*unexpected keyword"),
]


@pytest.mark.parametrize(("params", "reason"), BROKEN)
def test_params_that_do_not_fit_are_refused_without_work(
    params: dict[str, Any], reason: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = torch.empty

    def watched(*shape: Any, **options: Any) -> Tensor:
        size = torch.Size(shape[0] if isinstance(shape[0], tuple) else shape)
        assert size.numel() < 10**4, "a large weight was made"
        return genuine(*shape, **options)

    monkeypatch.setattr(torch, "empty", watched)
    with pytest.raises(trained.TrainedError, match=rf"net\.safetensors.*{reason}"):
        load_trained(rewritten(file, lambda header: header["params"].update(params)))


@pytest.mark.parametrize("name", STORED)
def test_every_size_is_compared_with_the_weights_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = save_trained(small(name), tmp_path / "net.safetensors", info_of(name))
    content, params = kept.read_bytes(), header_of(kept)["params"]
    sizes = params.keys() - {"rho", "max_steps", "seed", "num_heads"}
    sizes -= {"num_classes"} if name == "transformer_eqprop" else set()
    assert len(sizes) >= 4
    monkeypatch.setattr(nn.Module, "__init__", None)
    for size in sizes:
        for value in (params[size] + 1, 10**9):
            kept.write_bytes(content)

            def change(header: dict[str, Any], size: str = size, value: int = value) -> None:
                header["params"][size] = value

            vocab = size == "vocab_size" and name != "classifier"
            reason = "none of its model" if vocab else "weights are not those of"
            with pytest.raises(trained.TrainedError, match=reason):
                load_trained(rewritten(kept, change))
    for size in sizes:
        kept.write_bytes(content)
        with pytest.raises(trained.TrainedError, match=f"nothing about '{size}'|none of its model"):
            load_trained(rewritten(kept, lambda header, size=size: header["params"].pop(size)))


@pytest.mark.parametrize(
    ("vocab", "reason"),
    [
        (Vocabulary("abc").state, "got 3 for vocab_size=11"),
        ({"level": "character"}, "keys 'level' and 'symbols'"),
        ({"level": "tone", "symbols": ["a"]}, "level must be"),
        ({"level": "character", "symbols": "a" * V}, "symbols must differ"),
        ({"level": "character", "symbols": 7}, "symbols must be"),
        (None, "state must have"),
    ],
)
def test_a_vocabulary_that_is_none_of_the_model_is_refused(
    vocab: Any, reason: str, file: Path
) -> None:
    with pytest.raises(trained.TrainedError, match=f"net.safetensors: its vocabulary .*{reason}"):
        load_trained(rewritten(file, lambda header: header.update(vocab=vocab)))


@pytest.mark.parametrize("key", ["vocab", "test_loss", "validation_bits_per_character"])
def test_what_a_language_model_must_say_is_asked_for(key: str, file: Path) -> None:
    with pytest.raises(trained.TrainedError, match=f"says nothing about {key}"):
        trained_info(rewritten(file, lambda header: header.pop(key)))


def test_a_vocabulary_that_was_changed_is_damage(file: Path) -> None:
    tensors, header = load_file(file), header_of(file)
    header["vocab"]["symbols"][:2] = header["vocab"]["symbols"][1::-1]
    save_file(tensors, file, {trained.METADATA: json.dumps(header)})
    with pytest.raises(trained.TrainedError, match="damaged: it is not what was saved"):
        load_trained(file)


def test_weights_that_are_not_finite_are_not_loaded(file: Path) -> None:
    spoiled = load_file(file)["W_skip.weight"]
    spoiled[0, 0] = math.nan
    with pytest.raises(trained.TrainedError, match=r"W_skip\.weight is not finite"):
        load_trained(rewritten(file, lambda header: None, {"W_skip.weight": spoiled}))


def test_what_cannot_be_saved_is_named_and_nothing_is_written(
    model: HybridEqPropLM, tmp_path: Path
) -> None:
    target = tmp_path / "net.safetensors"
    accuracies = {k: v for k, v in INFO.items() if "_loss" not in k} | {"test_accuracy": 1.0}

    class Own(HybridEqPropLM):
        pass

    own, unnamed = Own(V, 16, seed=0), HybridEqPropLM(V, 16, seed=0)
    guessed = HybridEqPropLM(65, 16, seed=0)
    assert guessed.vocab is not None
    bad: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (unnamed, INFO, ValueError, "given its symbols: set model.vocab"),
        (guessed, INFO, ValueError, "given its symbols: set model.vocab"),
        (own, INFO, TypeError, "model must be a ConvEqProp, HybridEqPropLM, .* got Own"),
        (nn.Linear(2, 2), INFO, TypeError, "or BackpropWindowLM, got Linear"),
        (model, accuracies, ValueError, "missing: validation_loss, test_loss"),
        (model, INFO | {"test_loss": None}, TypeError, r"info\['test_loss'\] must be"),
        (model, INFO | {"test_loss": -1.0}, ValueError, r"info\['test_loss'\] must be"),
        (model, INFO | {"test_loss": math.nan}, ValueError, r"info\['test_loss'\] must be"),
    ]
    for net, info, error, match in bad:
        with pytest.raises(error, match=match):
            save_trained(net, target, info)
    model.W_skip = nn.Linear(16, V + 1, bias=False)
    model.W_in = nn.Linear(17, 20)
    with pytest.raises(ValueError, match=r"cannot be saved: .*W_in.weight is \(20, 17\), not"):
        save_trained(model, target, INFO)
    assert list(tmp_path.iterdir()) == []


SHIPPED = [name for name in list_trained() if KINDS[trained_info(name)["model"]].reads]
# Ours, not a line of the training text.
LINES = (
    "OLIVER:\nThe road is long, my lord, and we must ride before the morning comes.\n\n"
    "MARIA:\nThen let us go; I will not stay to hear that false and bloody man speak of his love."
    "\nWhat shall I tell the queen, if she should ask me where the letter is?\n"
)


def test_a_language_model_is_shipped() -> None:
    assert "shakespeare_hybrid" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_language_model_is_whole_small_and_reads_english(name: str) -> None:
    info, net = trained_info(name), load_trained(name)
    assert net.contraction_bound() < net.rho < 1 and info["estimator"] == "centered"
    assert (trained._folder() / f"{name}.safetensors").stat().st_size < 500_000
    for split in ("validation", "test"):
        loss, bits = info[f"{split}_loss"], info[f"{split}_bits_per_character"]
        assert loss < 1.95 and bits == pytest.approx(loss / math.log(2), abs=2e-4)
    tokens = net.vocab.encode(LINES)[: 3 * (net.max_seq_len + 1)].unflatten(0, (3, -1))
    found = EqPropTrainer(net, progress=False).evaluate([(tokens[:, :-1], tokens[:, 1:])])
    assert found["residual"] < 1e-4
    # of counted letters, 3.3; of a vocabulary in another order, far more
    assert 1 < found["loss"] < 2.5
    shuffled = torch.randperm(len(net.vocab), generator=torch.Generator().manual_seed(0))[tokens]
    other = EqPropTrainer(net, progress=False).evaluate([(shuffled[:, :-1], shuffled[:, 1:])])
    assert other["loss"] > 4


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_language_model_writes(name: str) -> None:
    net = load_trained(name)
    text = net.generate("ROMEO:", max_new_tokens=net.max_seq_len + 20, seed=0)
    assert text.startswith("ROMEO:") and len(text) == 6 + net.max_seq_len + 20
    assert set(text) <= set(net.vocab.symbols) and len(set(text)) > 10
    assert net.generate("ROMEO:", max_new_tokens=20, seed=0) == text[:26]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_logit_of_a_shipped_language_model_leaks(name: str) -> None:
    net = load_trained(name)
    shape, random = (B, min(net.max_seq_len, 32)), torch.Generator().manual_seed(0)
    x = torch.randint(net.vocab_size, shape, generator=random)
    with torch.no_grad():
        logits = net(x)
        for place in (1, shape[1] // 2, shape[1] - 1):
            other = x.clone()
            other[:, place:] = (other[:, place:] + 1) % net.vocab_size
            changed = net(other)
            assert torch.equal(changed[:, :place], logits[:, :place])
            assert not torch.equal(changed[:, place:], logits[:, place:])
