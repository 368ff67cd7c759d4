"""Which symbols a model's tokens are: told by a loader or by hand, carried along, never guessed
against what was told.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, Vocabulary
from eqprop_lab.datasets import read_text
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.looped import HybridEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM
from eqprop_lab.training.history import CheckpointError

TEXT = "the cat sat on the mat; a rat sat at the tea.\n" * 8
OTHER = TEXT.replace("m", "M")  # as many symbols


def model_of(size: int, **changes: Any) -> FullEqPropLM:
    return FullEqPropLM(size, **({"hidden_dim": 8, "num_layers": 1, "max_seq_len": 8} | changes))


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    for name, text in (("one.txt", TEXT), ("two.txt", OTHER)):
        (tmp_path / name).write_text(text)
    return [tmp_path / "one.txt", tmp_path / "two.txt"]


def test_the_guess_is_by_the_number_of_tokens() -> None:
    shakespeare, ascii = model_of(65).vocab, model_of(96).vocab
    assert shakespeare is not None and shakespeare.state == Vocabulary.shakespeare().state
    assert ascii is not None and ascii.state == Vocabulary.ascii().state
    assert model_of(64).vocab is None and model_of(65).given_vocab is None


def test_a_model_that_nobody_told_its_symbols_says_how_to_tell_it() -> None:
    model = model_of(30)
    with pytest.raises(ValueError, match=r"30 tokens.*model\.vocab = Vocabulary\.of\(text\)"):
        model.generate("a")
    assert model.generate(torch.tensor([[3]]), 4).shape == (1, 5)


def test_only_a_vocabulary_of_its_size_is_taken() -> None:
    model = model_of(3)
    with pytest.raises(ValueError, match="got 4 for vocab_size=3"):
        model.vocab = Vocabulary("abcd")
    with pytest.raises(TypeError, match="vocab must be a Vocabulary, got 'abc'"):
        model.vocab = "abc"  # type: ignore[assignment]
    model.vocab = Vocabulary("abc")
    assert set(model.generate("a", 20)) <= set("abc")
    model.vocab = None
    assert model.vocab is None


def test_unknown_characters_are_named_and_nothing_is_drawn() -> None:
    model = model_of(3)
    model.vocab = Vocabulary("abc")
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"prompt: .*3 characters of the vocabulary, got 'x', 'é'"):
        model.generate("axbxé")
    with pytest.raises(ValueError, match="prompt must hold a character.*no line end"):
        model.generate("")
    assert torch.equal(before, torch.get_rng_state())
    model.vocab = Vocabulary("a\nb")
    assert model.generate("", 6, seed=1) == model.generate("\n", 6, seed=1)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (7, "prompt must be a str or a tensor of tokens, got 7"),
        (["a"], "prompt must be"),
        (torch.tensor([0, 1]), r"prompt must be integer tokens \(B, T\), got torch.int64 of shape"),
        (torch.tensor([[0.5]]), "prompt must be integer tokens"),
        (torch.zeros(1, 0, dtype=torch.int64), "prompt must hold at least one token"),
        (torch.tensor([[0, 3]]), r"prompt must hold tokens 0\.\.2, got values from 0 to 3"),
        # also where the context does not reach
        (torch.tensor([[-1] + [0] * 20]), "prompt must hold tokens"),
    ],
)
def test_bad_prompts_are_refused(prompt: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        model_of(3).generate(prompt)


def test_other_arguments_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(3)
    monkeypatch.setattr(model, "begin", lambda x: pytest.fail("it has begun"))
    x = torch.tensor([[0]])
    for argument, value, message in [
        ("max_new_tokens", 0, "max_new_tokens must be"),
        ("temperature", -0.1, "temperature must be"),
        ("top_k", 4, "top_k must be an integer >= 1 and <= 3, got 4"),
        ("context", "caches", "context must be one of .*did you mean 'cache'"),
        ("stream", 3, "stream must be a function of a piece"),
        ("seed", -1, "seed must be"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            model.generate(x, **{argument: value})


def test_weights_that_diverged_write_no_text() -> None:
    for model in (model_of(3), BackpropTransformerLM(3, 8, 1, 2, 8)):
        with torch.no_grad():
            model.W_out.bias[1] = float("nan")
        with pytest.raises(ValueError, match="logits are not finite"):
            model.generate(torch.tensor([[0]]), temperature=0)


@pytest.mark.parametrize("variant", [FullEqPropLM, HybridEqPropLM, BackpropTransformerLM])
def test_fit_takes_the_vocabulary_of_the_loader(variant: Any, texts: list[Path]) -> None:
    data = read_text(texts[0])
    model = variant(len(data.vocab), 8, 1, 2, 8, seed=0)
    gradient = "autograd" if variant is BackpropTransformerLM else None
    trainer = EqPropTrainer(model, gradient, beta="auto", nudged_steps=25)
    trainer.fit(data.batches("train", 8, 4), epochs=1, val_loader=data.batches("test", 8, 4))
    assert model.given_vocab == data.vocab
    assert set(model.generate("the", 20, seed=0)) <= set(data.vocab.symbols)


def test_fit_refuses_other_symbols_before_training(texts: list[Path]) -> None:
    one, two = map(read_text, texts)
    assert len(one.vocab) == len(two.vocab)
    loader, other = one.batches("train", 8, 4), two.batches("train", 8, 4)
    model = model_of(len(one.vocab) + 1)
    with pytest.raises(ValueError, match=r"vocab must have as many symbols.*vocab_size="):
        EqPropTrainer(model).fit(loader, epochs=1)
    model = model_of(len(one.vocab))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="val must have the vocabulary of train"):
        EqPropTrainer(model).fit(loader, epochs=1, val_loader=two.batches("test", 8, 4))
    assert model.given_vocab is None
    model.vocab = one.vocab
    with pytest.raises(ValueError, match="train must have the vocabulary of model"):
        EqPropTrainer(model).fit(other, epochs=1)
    model.vocab = None
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_travels_with_weights_checkpoints_and_copies(texts: list[Path], tmp_path: Path) -> None:
    data = read_text(texts[0])
    model = model_of(len(data.vocab), seed=0)
    trainer = EqPropTrainer(model, beta="auto", nudged_steps=25)
    trainer.fit(data.batches("train", 8, 4), epochs=1)
    text = model.generate("the", 20, seed=0)
    path = trainer.save_checkpoint(tmp_path / "one.pt")
    twin = model_of(len(data.vocab), seed=1)
    EqPropTrainer(twin, beta="auto", nudged_steps=25).load_checkpoint(path)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = model_of(len(data.vocab), seed=2)
    again.load_state_dict(torch.load(file, weights_only=True))
    for other in (twin, again, copy.deepcopy(model)):
        assert other.given_vocab == data.vocab and other.generate("the", 20, seed=0) == text
    again.load_state_dict(model_of(len(data.vocab)).state_dict())
    assert again.given_vocab is None  # weights of a model that has none bring none


def test_a_checkpoint_with_a_spoiled_vocabulary_changes_nothing(
    texts: list[Path], tmp_path: Path
) -> None:
    data = read_text(texts[0])
    model = model_of(len(data.vocab), seed=0)
    trainer = EqPropTrainer(model, beta="auto", nudged_steps=25)
    trainer.fit(data.batches("train", 8, 4), epochs=1)
    content = torch.load(trainer.save_checkpoint(tmp_path / "one.pt"), weights_only=True)
    extra = content["model"]["state"]["_extra_state"]
    other = Vocabulary("abc").state
    for spoiled in (extra[:-3], torch.tensor(list(str(other).encode())), "text", None):
        content["model"]["state"]["_extra_state"] = spoiled
        torch.save(content, tmp_path / "two.pt")
        with pytest.raises(CheckpointError):
            trainer.load_checkpoint(tmp_path / "two.pt")
        assert model.given_vocab == data.vocab
