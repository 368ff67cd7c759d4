"""Windows of a stream: y follows x, every token counts once, a new cut each epoch, exact resume."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from eqprop_lab import Vocabulary
from eqprop_lab.datasets.token_batches import TokenBatches
from eqprop_lab.training import sources
from eqprop_lab.training.batches import hold_out

VOCAB = Vocabulary(tuple(chr(200 + i) for i in range(103)))


def stream(count: int, length: int, size: int, shuffle: bool, seed: int = 0) -> TokenBatches:
    """Tokens 0, 1, 2, ... so that a token says where it stands."""
    return TokenBatches(torch.arange(count), length, size, shuffle, seed, VOCAB)


@pytest.mark.parametrize("count", [9, 10, 16, 17, 24, 25, 26, 103])
@pytest.mark.parametrize("size", [1, 3, 50])
def test_fixed_windows_predict_every_token_but_the_first_once(count: int, size: int) -> None:
    loader = stream(count, 8, size, shuffle=False)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(x.shape == y.shape and x.ndim == 2 and x.shape[1] <= 8 for x, y in batches)
    assert all(x.dtype == y.dtype == torch.int64 and torch.equal(y, x + 1) for x, y in batches)
    assert torch.cat([y.flatten() for _, y in batches]).tolist() == list(range(1, count))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, loader, strict=True))


@pytest.mark.parametrize("count", [9, 10, 15, 16, 17, 23, 24, 103])
def test_training_windows_are_whole_disjoint_and_cut_anew(count: int) -> None:
    loader = stream(count, 8, 3, shuffle=True)
    ends: Counter[int] = Counter()
    for _ in range(60):
        batches = list(loader)
        assert len(batches) == len(loader)
        x, y = (torch.cat(part) for part in zip(*batches, strict=True))
        assert torch.equal(y, x + 1) and x.shape == (loader.windows, 8)
        assert len(set(x.flatten().tolist())) == x.numel()
        ends.update((int(x.min()), int(y.max())))
    # from the first token to the last one: no part of the text is left out for ever
    assert ends[0] and ends[count - 1] and (len(ends) > 4 or count < 12)


def test_order_and_cut_come_from_the_seed_alone() -> None:
    def first_epochs(seed: int) -> list[list[int]]:
        loader = stream(103, 8, 3, shuffle=True, seed=seed)
        return [[int(x[0, 0]) for x, _ in loader] for _ in range(3)]

    torch.manual_seed(1)
    one = first_epochs(5)
    torch.manual_seed(2)
    assert first_epochs(5) == one and first_epochs(6) != one
    assert one[0] != one[1] != one[2]


def test_a_state_put_back_gives_the_same_epoch_again() -> None:
    loader = stream(103, 8, 3, shuffle=True)
    list(loader)
    kept = sources.states(loader)
    assert set(kept) == {"generator"}
    epoch = [x for x, _ in loader]
    sources.set_states(loader, kept)
    assert all(torch.equal(a, b[0]) for a, b in zip(epoch, loader, strict=True))


def test_a_fit_knows_its_text_again() -> None:
    def note(loader: TokenBatches) -> tuple[object, object]:
        return sources.facts(loader), sources.digest(loader)

    loader = stream(103, 8, 3, shuffle=True)
    assert note(loader) == note(stream(103, 8, 3, shuffle=True)) and note(loader)[1] is not None
    assert note(loader)[0] != note(stream(103, 9, 3, shuffle=True))[0]
    assert note(loader)[1] != note(stream(102, 8, 3, shuffle=True))[1]
    other = Vocabulary(VOCAB.symbols[::-1])
    assert note(loader)[0] != note(TokenBatches(torch.arange(103), 8, 3, True, 0, other))[0]
    seen: dict[str, object] = {"facts": sources.facts(loader), "data": sources.digest(loader)}
    list(sources.watched(loader, iter(loader), seen, cuda=False))
    sources.check_same("train", loader, seen)


def test_the_end_of_the_text_is_held_out_and_nothing_of_it_trains() -> None:
    loader = stream(103, 8, 3, shuffle=True)
    loader.characters_per_token = 4.5
    rest, held = hold_out(loader, None, 0.3)
    assert isinstance(rest, TokenBatches) and isinstance(held, TokenBatches)
    assert held.vocab is VOCAB and held.characters_per_token == rest.characters_per_token == 4.5
    trained = {int(t) for _ in range(40) for x, y in rest for t in (*x.flatten(), *y.flatten())}
    validated = {int(t) for x, y in held for t in (*x.flatten(), *y.flatten())}
    assert trained == set(range(72)) and validated == set(range(72, 103))
    assert rest.generator is loader.generator and rest.shuffle and not held.shuffle
    for part in (0.05, 0.95):
        with pytest.raises(ValueError, match="fraction must leave windows of 8 tokens in both"):
            loader.hold_out(part)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (torch.arange(8), ValueError, "8 tokens have windows of at most 7, got 8"),
        (torch.arange(0), ValueError, "seq_len"),
        (torch.arange(20.0), TypeError, "int64"),
        (torch.arange(20).view(4, 5), TypeError, "one sequence"),
    ],
)
def test_what_is_no_stream(tokens: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TokenBatches(tokens, 8, 3, True, 0, VOCAB)
