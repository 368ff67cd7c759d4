"""Text from the language models: what a cache gives is what the whole window gives, and settled."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eqprop_lab import (
    ConvergenceWarning,
    EqPropTrainer,
    TransformerEqProp,
    Vocabulary,
    relax,
)
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.models.language import generation
from eqprop_lab.models.language.attention_only import EqPropAttentionOnlyLM
from eqprop_lab.models.language.ball import rms
from eqprop_lab.models.language.full import FullEqPropLM
from eqprop_lab.models.language.generation import Cache, Generates, Sampler
from eqprop_lab.models.language.looped import HybridEqPropLM, LoopedMLPForLM
from eqprop_lab.models.language.recurrent import RecurrentEqPropLM
from eqprop_lab.models.language.transformer import BackpropTransformerLM, BackpropWindowLM

SIZES: dict[str, Any] = {"hidden_dim": 16, "num_heads": 2, "max_seq_len": 12}
MODELS: dict[str, Callable[..., Generates]] = {
    "full": lambda v, **k: FullEqPropLM(v, **SIZES, num_layers=3, inner_dim=20, **k),
    "transformer_eqprop": lambda v, **k: TransformerEqProp(v, **SIZES, num_layers=1, **k),
    "recurrent_core": lambda v, **k: RecurrentEqPropLM(v, **SIZES, inner_dim=20, **k),
    "attention_only": lambda v, **k: EqPropAttentionOnlyLM(v, **SIZES, inner_dim=20, **k),
    "hybrid": lambda v, **k: HybridEqPropLM(v, **SIZES, num_layers=3, inner_dim=20, **k),
    "looped_mlp": lambda v, **k: LoopedMLPForLM(v, hidden_dim=20, embed_dim=4, window=5, **k),
    "transformer": lambda v, **k: BackpropTransformerLM(v, **SIZES, inner_dim=20, **k),
    "window": lambda v, **k: BackpropWindowLM(v, hidden_dim=20, embed_dim=4, window=5, **k),
}
CACHED = [name for name in MODELS if name not in ("looped_mlp", "window")]
SYMBOLS = "\n abcdef"


def make(name: str, seed: int = 0, double: bool = True) -> Generates:
    """A model with weights away from their start, so that every part of it has a say."""
    model = MODELS[name](len(SYMBOLS), seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (
                0.3
                * torch.randn(parameter.shape, generator=generator)
                * (parameter.std() if parameter.numel() > 1 and parameter.std() > 0 else 0.3)
            )
    model.vocab = Vocabulary(SYMBOLS)
    return model.double() if double else model


def tokens(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(
        len(SYMBOLS), (batch, length), generator=torch.Generator().manual_seed(seed)
    )


def settled_logits(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, V) of the last token, of the whole window relaxed at once: no cache, no stop."""
    with torch.no_grad():
        if isinstance(model, EquilibriumModel):
            end = relax(model, x, 400)
            return model.readout(end.state)[x.shape[1] - 1 :: x.shape[1]]
        if isinstance(model, EqPropAttentionOnlyLM):
            h = model.embedding(x)
            for layer in model.layers:
                end = relax(layer.settle.model, rms(h), 400)
                h = layer.after(h, end.state[0].unflatten(0, h.shape[:2]))
            return model.W_out(rms(h[:, -1]))
        return model(x)[:, -1]


@pytest.mark.parametrize("name", CACHED)
def test_token_by_token_gives_what_the_whole_window_gives(name: str) -> None:
    model, x = make(name), tokens(2, 12)
    with torch.no_grad():
        logits, cache = model.begin(x[:, :3])
        for length in range(3, 13):
            assert isinstance(cache, Cache) and cache.tokens == length
            exact = settled_logits(model, x[:, :length])
            torch.testing.assert_close(logits, exact, rtol=0, atol=1e-9)
            assert float((exact[0] - exact[1]).abs().max()) > 1e-3  # the samples differ
            if length < 12:
                logits, cache = model.extend(x[:, length : length + 1], cache)


@pytest.mark.parametrize("name", ["looped_mlp", "window"])
def test_a_window_model_sees_its_window_and_keeps_nothing(name: str) -> None:
    model, x = make(name), tokens(2, 9)
    with torch.no_grad():
        logits, cache = model.begin(x[:, -5:])
    assert cache is None and model.context_length == 5
    torch.testing.assert_close(logits, settled_logits(model, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_both_contexts_write_the_same_until_the_cache_is_full(name: str) -> None:
    model, x = make(name), tokens(3, 4)
    by_cache = model.generate(x, 9, seed=1)
    assert torch.equal(by_cache, model.generate(x, 9, seed=1, context="window"))
    assert by_cache.shape == (3, 13) and torch.equal(by_cache[:, :4], x)


@pytest.mark.parametrize("name", MODELS)
def test_it_goes_on_past_max_seq_len(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every logits that it samples from are those of the context the cache then holds."""
    model, x = make(name), tokens(1, 3)
    begun: list[int] = []
    seen: list[Tensor] = []
    begin, call = model.begin, Sampler.__call__

    def counted(x: Tensor) -> tuple[Tensor, Cache | None]:
        begun.append(x.shape[1])
        return begin(x)

    def watched(sampler: Sampler, logits: Tensor) -> Tensor:
        seen.append(logits)
        return call(sampler, logits)

    monkeypatch.setattr(model, "begin", counted)
    monkeypatch.setattr(Sampler, "__call__", watched)
    whole = model.generate(x, 212, seed=0)
    assert whole.shape == (1, 215) and len(seen) == 212
    if name not in CACHED:
        assert len(begun) == 212 and max(begun) == 5
        assert torch.equal(whole, model.generate(x, 212, seed=0, context="window"))
        return
    assert begun == [3] + [6] * ((212 - 10) // 7 + 1)  # 6 again, and 6 more until 12 are reached
    length = 3
    for number, logits in enumerate(seen):
        context = whole[:, 3 + number - length : 3 + number]
        if number % 20 == 0:
            exact = settled_logits(model, context)
            torch.testing.assert_close(logits, exact, rtol=0, atol=1e-9)
        length = 6 if length == 12 else length + 1


@pytest.mark.parametrize("name", MODELS)
def test_greedy_is_the_largest_logit_and_draws_nothing(name: str) -> None:
    model, x = make(name), tokens(2, 4)
    before = torch.get_rng_state()
    found = model.generate(x, 3, temperature=0)
    assert torch.equal(torch.get_rng_state(), before)
    for length in (4, 5, 6):
        largest = settled_logits(model, found[:, max(0, length - 12) : length]).argmax(1)
        assert torch.equal(found[:, length], largest)
    assert torch.equal(found, model.generate(x, 3, top_k=1))
    assert torch.equal(found, model.generate(x, 3, temperature=1e-40, seed=3))


def test_a_seed_is_a_generator_of_its_own() -> None:
    model = make("recurrent_core")
    before = torch.get_rng_state()
    one, two = (model.generate("ab", 15, seed=5) for _ in range(2))
    assert one == two != model.generate("ab", 15, seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    drawn = model.generate("ab", 15)
    assert drawn != model.generate("ab", 15)
    torch.manual_seed(0)
    assert drawn == model.generate("ab", 15)


def test_the_sampler_draws_from_the_softmax_of_the_top_k() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0]).log1p().expand(20000, 4)
    for temperature, top_k in ((1.0, None), (0.5, 2), (2.0, 3)):
        drawn = Sampler(4, temperature, top_k, seed=0)(logits)[:, 0]
        weight = torch.tensor([1.0, 4.0, 2.0, 3.0]) ** (1 / temperature)
        weight[weight.argsort()[: 4 - (top_k or 4)]] = 0
        share = torch.bincount(drawn, minlength=4) / len(drawn)
        torch.testing.assert_close(share, weight / weight.sum(), rtol=0, atol=0.012)
    equal = Sampler(4, 1.0, 2, seed=0)(torch.zeros(100, 4))
    assert len(equal.unique()) == 2  # also where all logits are equal


def test_every_piece_is_streamed_as_soon_as_it_is_there() -> None:
    model = make("recurrent_core")
    pieces: list[str] = []
    text = model.generate("ab\n", 30, seed=0, stream=pieces.append)
    assert len(pieces) == 30 and "ab\n" + "".join(pieces) == text
    parts: list[Tensor] = []
    x = tokens(2, 3)
    found = model.generate(x, 7, seed=0, stream=parts.append)
    assert torch.equal(torch.stack(parts, 1), found[:, 3:])

    def enough(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 33:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate("ab\n", 30, seed=0, stream=enough)
    assert pieces[30:] == pieces[:3]


def test_words_are_streamed_with_the_spaces_between_them() -> None:
    words = Vocabulary.of("to be or not \n to be that is", "word")
    model = FullEqPropLM(len(words), 8, 1, 2, 8, seed=0)
    model.vocab = words
    pieces: list[str] = []
    text = model.generate("to be", 60, seed=1, temperature=3.0, stream=pieces.append)
    assert "to be" + "".join(pieces) == text and len(pieces) == 60
    assert "\n" in text and " \n" not in text and text == words.decode(words.encode(text))
    with pytest.raises(ValueError, match="word to go on from"):
        other = FullEqPropLM(len(words) - 1, 8, 1, 2, 8, seed=0)
        other.vocab = Vocabulary.of("to be or not to be that is", "word")
        other.generate("  ")


def test_a_callback_may_train_the_model_that_writes() -> None:
    """No weights are held while somebody else has the turn."""
    model, x = make("full"), tokens(2, 6)
    y = tokens(2, 6, seed=1)
    twin = make("full")
    trainers = [EqPropTrainer(m, "implicit", lr=0.1) for m in (model, twin)]  # type: ignore[arg-type]
    model.generate("ab", 3, seed=0, stream=lambda piece: trainers[0].train_batch(x, y))
    for _ in range(3):
        trainers[1].train_batch(x, y)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_token_that_does_not_settle_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("full")
    monkeypatch.setattr(generation, "STEPS", 3)
    with pytest.warns(ConvergenceWarning, match=r"generation: .* > tol 1.0e-12 after 3 steps"):
        model.generate("ab", 2)


@pytest.mark.parametrize("name", CACHED)
def test_float32_settles_to_its_own_tolerance(name: str) -> None:
    model = make(name, double=False)
    assert len(model.generate("ab", 30, seed=0)) == 32  # warnings are errors here


@pytest.mark.parametrize("name", ["full", "attention_only", "hybrid", "transformer"])
def test_threads_share_a_model_and_its_text_stays_the_same(name: str) -> None:
    model, text = make(name), make(name).generate("ab", 12, seed=7)
    twin, x, y = copy.deepcopy(model), tokens(2, 6), tokens(2, 6, seed=1)
    found: list[Any] = []
    done = threading.Event()

    def write(seed: int) -> None:
        for _ in range(2):
            found.append((seed, model.generate("ab", 12, seed=seed)))

    def train(learner: Generates) -> None:
        trainer = trainer_of(learner)
        for _ in range(60):
            trainer.train_batch(x, y)
            if done.is_set():
                break

    def together(learner: Generates) -> None:
        done.clear()
        failed: list[BaseException] = []
        calls = [lambda: write(7), lambda: write(8), lambda: train(learner)]
        threads = [threading.Thread(target=caught, args=(call, failed)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join()
        done.set()
        threads[2].join()
        assert not failed, failed

    together(twin)
    assert [part for seed, part in found if seed == 7] == [text, text]
    assert len({part for seed, part in found if seed == 8}) == 1 and len(found) == 4
    found.clear()
    together(model)  # weights move while it writes
    assert len(found) == 4 and all(len(part) == 14 for _, part in found)
    assert model.generate("ab", 12, seed=7) == copy.deepcopy(model).generate("ab", 12, seed=7)


def trainer_of(model: Generates) -> EqPropTrainer:
    twin = isinstance(model, BackpropTransformerLM | BackpropWindowLM)
    gradient = "autograd" if twin else None
    return EqPropTrainer(model, gradient, lr=0.02)


def caught(call: Callable[[], None], failed: list[BaseException]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            call()
    except BaseException as error:
        failed.append(error)


@pytest.mark.parametrize("name", MODELS)
def test_writing_leaves_the_model_trainable_and_as_it_was(name: str) -> None:
    model, x, y = make(name), tokens(2, 4), tokens(2, 4, seed=1)
    twin = copy.deepcopy(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        assert len(model.generate("ab", 4, seed=0)) == 6
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    for learner in (model, twin):
        trainer_of(learner).train_batch(x, y)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def without_cache(name: str) -> Any:
    """The model as a user writes one who knows nothing of caches."""
    model = make(name)
    own = type(model)
    mine = {"begin": Generates.begin, "extend": Generates.extend}
    model.__class__ = type(f"My{own.__name__}", (own,), mine)
    return model


@pytest.mark.parametrize("name", CACHED)
def test_a_model_without_a_cache_writes_the_same_slowly(name: str) -> None:
    model, x = without_cache(name), tokens(2, 4)
    for length in (1, 4):
        with torch.no_grad():
            logits, cache = model.begin(x[:, :length])
        assert cache is None
        exact = settled_logits(make(name), x[:, :length])
        # blocks of an ordinary module settle as far as its forward pass lets them
        close = 1e-5 if name == "attention_only" else 1e-9
        torch.testing.assert_close(logits, exact, rtol=0, atol=close)
    assert torch.equal(model.generate(x, 9, seed=1), make(name).generate(x, 9, seed=1))


def test_what_a_model_of_one_s_own_lacks_is_named() -> None:
    model = without_cache("full")
    kept = type("Kept", (type(model),), {"begin": type(make("full")).begin})
    model.__class__ = kept
    with pytest.raises(TypeError, match=r"Kept.begin keeps a cache, so the class needs extend"):
        model.generate(tokens(1, 3), 2)
    model.max_seq_len = None
    with pytest.raises(TypeError, match="Kept must say how many of the last tokens it can see"):
        model.generate(tokens(1, 3), 2)
