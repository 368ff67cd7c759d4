"""A text as the data of an experiment: the model takes its sizes from it, trains and goes on."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eqprop_lab import DataUnavailable, HybridEqPropLM, get_lm_dataset, train_from_config
from eqprop_lab.commands import evaluate, train
from eqprop_lab.experiments.config import build_experiment, make_trainer, parse_config
from eqprop_lab.experiments.runs import RunStore
from eqprop_lab.training.checkpoint import read

TEXT = "the cat sat on the mat; the dog sat on the log.\n" * 30


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def content(dataset: str | Path, model: str = "HybridEqPropLM", **data: Any) -> dict[str, Any]:
    params = {"hidden_dim": 8, "num_layers": 2} if model == "HybridEqPropLM" else {}
    return {
        "model": {"name": model, "params": params},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.01},
        "data": {"dataset": str(dataset), "seq_len": 12, **data},
        "experiment": {"name": "of_text", "seed": 5},
    }


def test_the_sizes_follow_from_the_text(book: Path) -> None:
    config = parse_config(content(book))
    symbols = len(set(TEXT))
    wanted = {"vocab_size": symbols, "max_seq_len": 12, "seed": 5, "hidden_dim": 8, "num_layers": 2}
    assert config.params == wanted
    assert parse_config(yaml.safe_load(yaml.safe_dump(config.as_dict()))) == config
    trainer, data = build_experiment(config)
    assert isinstance(trainer.model, HybridEqPropLM) and trainer.gradient == "centered"
    assert (len(data.train), data.unit) == (int(0.9 * len(TEXT)) - 1, "tokens")
    words = parse_config(content(book, level="word", max_words=3))
    assert words.params["vocab_size"] == 4
    # a stored config names every size: it can be read where the text is not
    stored = config.as_dict()
    stored["data"]["dataset"] = str(book.with_name("gone.txt"))
    assert make_trainer(parse_config(stored)).model.vocab_size == symbols
    with pytest.raises(DataUnavailable, match="gone.txt"):
        build_experiment(parse_config(stored))


@pytest.mark.parametrize("spelling", ["python_docs", "Python-Docs", "pythondocs"])
def test_a_text_has_a_name_in_any_spelling(spelling: str) -> None:
    config = parse_config(content(spelling))
    assert config.data == {"name": "python_docs", "seq_len": 12}
    assert config.params["vocab_size"] == len(get_lm_dataset("python_docs")[1])


@pytest.mark.parametrize(
    ("model", "gradient"),
    [
        ("FullEqPropLM", "asymmetric"),
        ("RecurrentEqPropLM", "asymmetric"),
        ("EqPropAttentionOnlyLM", "centered"),
        ("LoopedMLPForLM", "centered"),
        ("BackpropTransformerLM", "autograd"),
        ("BackpropWindowLM", "autograd"),
    ],
)
def test_each_model_trains_by_the_estimator_that_suits_it(
    book: Path, model: str, gradient: str
) -> None:
    given = content(book, model, limit=8, validation=2)
    given["model"]["params"] = {"hidden_dim": 8}
    trainer, history = train_from_config(given)
    assert trainer.gradient == gradient
    assert history["train_loss"][1] < history["train_loss"][0]
    assert history["val_bits_per_character"][-1] == pytest.approx(
        history["val_loss"][-1] / math.log(2)
    )


def test_limits_count_windows(book: Path) -> None:
    _, data = build_experiment(parse_config(content(book, limit=5, validation=2)))
    x = torch.cat([x for x, _ in data.train.batches(8, shuffle=True)])
    held = torch.cat([x for x, _ in data.validation.batches(8)])
    assert x.shape == (5, 12) and held.shape == (2, 12)


def test_a_preset_takes_its_vocabulary_and_length_from_the_text(book: Path) -> None:
    given = content(book)
    given["model"] = {"preset": "lm_tiny", "params": {"hidden_dim": 8}}
    params = parse_config(given).params
    assert (params["vocab_size"], params["max_seq_len"]) == (len(set(TEXT)), 12)
    given["model"]["params"]["max_seq_len"] = 20
    assert parse_config(given).params["max_seq_len"] == 20


def changed(given: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    found = copy.deepcopy(given)
    found[section].update(values)
    return found


def test_what_contradicts_the_text_is_refused(book: Path) -> None:
    good, symbols = content(book), len(set(TEXT))
    params = good["model"]["params"]
    refused = [
        (changed(good, "data", seqlen=3), "key of the .*book.txt config .*did you mean 'seq_len'"),
        (changed(good, "data", seq_len=0), "data.seq_len must be an integer >= 1, got 0"),
        (changed(good, "data", limit=1.5), "data.limit must be an integer >= 1, got 1.5"),
        (changed(good, "data", level="letter"), "data.level must be one of .*'letter'"),
        (changed(good, "data", samples=3), "key of the .* config"),
        (changed(good, "data", dataset="python_doc"), "text file.*did you mean 'python_docs'"),
        (changed(good, "data", dataset=3), "text file.*got 3"),
        (
            changed(good, "data", augmentation=True),
            "data.augmentation must be false for .*book.txt, which has no images",
        ),
        (
            changed(good, "model", params=params | {"vocab_size": 65}),
            f"model.params.vocab_size is 65, but .*book.txt has {symbols}",
        ),
        (
            changed(good, "model", params=params | {"max_seq_len": 8}),
            "max_seq_len is 8, but data.seq_len is 12: windows must fit into the model",
        ),
        (
            changed(good, "model", name="LoopedMLP", params={"hidden_dim": 8}),
            "a LoopedMLP takes no tokens, and .*book.txt is a text",
        ),
        (
            good | {"data": {"dataset": "digits"}},
            "a HybridEqPropLM takes tokens, and digits is no text",
        ),
        (changed(good, "data", dataset=str(book.with_name("no.txt"))), "no.txt"),
    ]
    for wrong, message in refused:
        with pytest.raises((TypeError, ValueError, DataUnavailable), match=message):
            build_experiment(parse_config(wrong))


def test_a_text_that_grew_other_characters_is_refused_before_training(book: Path) -> None:
    config = parse_config(content(book))
    book.write_text(TEXT + "XYZ", encoding="utf-8")
    with pytest.raises(ValueError, match="vocab_size is .*, but .*book.txt has"):
        build_experiment(config)


def test_a_preset_trains_goes_on_bit_for_bit_and_is_scored(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = content(book, limit=4, validation=2)
    given["model"] = {"preset": "lm_tiny"}
    given["training"] |= {"batch_size": 2, "gradient": "response", "schedule": "one_cycle"}
    given["training"]["epochs"] = 3
    path = tmp_path / "lm.yaml"
    path.write_text(yaml.safe_dump(given))
    runs = tmp_path / "runs"
    assert train.main([str(path), "--runs", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert f"on {book}, 59 tokens, 3 epochs" in printed
    (whole,) = RunStore(runs).runs()

    def interrupt(record: dict[str, object]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "show", interrupt)
        assert train.main([str(path), "--runs", str(runs)]) == 1
    (broken,) = (run for run in RunStore(runs).runs() if run.id != whole.id)
    assert read(broken.checkpoint)["history"]["epoch"] == [1]
    assert train.main(["--resume", broken.id, "--runs", str(runs)]) == 0
    assert broken.parameters == whole.parameters
    assert broken.history["train_loss"] == whole.history["train_loss"]
    capsys.readouterr()

    assert evaluate.main([str(whole.folder)]) == 0
    printed = capsys.readouterr().out
    loss = whole.history["val_loss"][-1]
    assert "after 3 epochs" in printed and "validation (24 tokens): accuracy" in printed
    assert f"loss {loss:.4f}, {loss / math.log(2):.3f} bits per character" in printed


def test_another_text_is_scored_in_the_vocabulary_of_the_first(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lm.yaml"
    path.write_text(yaml.safe_dump(content(book, limit=4)))
    runs = tmp_path / "runs"
    assert train.main([str(path), "--runs", str(runs)]) == 0
    (run,) = RunStore(runs).runs()
    other = tmp_path / "other.txt"
    other.write_text("a hen sat on the log.\n" * 40)
    capsys.readouterr()
    assert evaluate.main([str(run.folder), "--data", str(other), "--split", "test"]) == 0
    assert "other.txt test (" in (printed := capsys.readouterr().out)
    # 40 * 22 characters, the last 5 % but one
    assert "(43 tokens)" in printed
    other.write_text("QUITE ANOTHER.\n" * 40)
    assert evaluate.main([str(run.folder), "--data", str(other)]) == 2
    assert "characters of the vocabulary, got" in capsys.readouterr().err
    assert evaluate.main([str(run.folder), "--data", "digits"]) == 2
    assert "--data must be a text, as " in capsys.readouterr().err
    assert evaluate.main([str(run.folder), "--root", str(tmp_path)]) == 2
    assert "root" in capsys.readouterr().err
