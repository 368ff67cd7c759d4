"""Tables of n-grams: what counting reaches, the honest floor under every trained language model.

    p_n(w | c) = (count(c w) + a_n p_{n-1}(w | c')) / (count(c) + a_n)         p_0(w) = 1 / V

c the n - 1 tokens before w, c' the same without the oldest: a context that was seen often trusts
its own counts, a new one the shorter context. For n = 1 this is add-k smoothing with k = a_1 / V.
Source: MacKay and Peto 1995, doi:10.1017/S1351324900000218.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from eqprop_lab.datasets.tokens import token_array
from eqprop_lab.validation import positive_int

# the end of the training text, on which the a_n are chosen
HELD = 0.1
STRENGTHS = tuple(2.0 ** (power / 2) for power in range(-8, 33))


def ngram_loss(
    train_tokens: Tensor | Sequence[int],
    test_tokens: Tensor | Sequence[int],
    order: int,
    vocab_size: int,
) -> float:
    """Mean of -ln p_order over the test tokens but the first order - 1, in nats a token.

    The counts are those of the training tokens. The a_n are those under which the last tenth of the
    training tokens is likeliest when only the others are counted: the test tokens choose nothing.

    order: 1 unigram, 2 bigram, 3 trigram, and so on. Raises: TypeError, ValueError naming the
    argument.
    """
    order, size = positive_int("order", order), positive_int("vocab_size", vocab_size)
    if order * math.log2(size) > 62:
        raise ValueError(f"order must keep vocab_size^order below 2^62, got {order} for {size}")
    train = _tokens("train_tokens", train_tokens, size, 20 * order)
    test = _tokens("test_tokens", test_tokens, size, order)
    p = np.full(len(test) - order + 1, 1.0 / size)
    for n, strength in enumerate(_choose(train, order, size), 1):
        p = _mixed(_counts(train, test, n, order, size), strength, p)
    return float(-np.log(p).mean())


def _choose(train: np.ndarray, order: int, size: int) -> list[float]:
    """a_1 to a_order, each the best of STRENGTHS once the shorter contexts have theirs."""
    cut = len(train) - max(order, int(HELD * len(train)))
    counted, held = train[:cut], train[cut:]
    p = np.full(len(held) - order + 1, 1.0 / size)
    chosen = []
    for n in range(1, order + 1):
        counts = _counts(counted, held, n, order, size)
        tried = [_mixed(counts, strength, p) for strength in STRENGTHS]
        best = int(np.argmax([np.log(each).sum() for each in tried]))
        chosen.append(STRENGTHS[best])
        p = tried[best]
    return chosen


Counts = tuple[np.ndarray, np.ndarray]


def _counts(train: np.ndarray, test: np.ndarray, n: int, order: int, size: int) -> Counts:
    """count(c w) and count(c) in the training tokens, of every test token with order - 1 before."""
    grams, contexts = _keys(train, n, size), _keys(train[:-1], n - 1, size)
    wanted = _keys(test, n, size)[order - n :]
    return _how_often(grams, wanted), _how_often(contexts, wanted // size)


def _keys(tokens: np.ndarray, n: int, size: int) -> np.ndarray:
    """A number for each n tokens in a row: its digits to the base V."""
    count = len(tokens) - n + 1
    keys = np.zeros(count, np.int64)
    for first in range(n):
        keys = keys * size + tokens[first : first + count]
    return keys


def _how_often(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    known, counts = np.unique(keys, return_counts=True)
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[place] == wanted, counts[place], 0)


def _mixed(counts: Counts, strength: float, shorter: np.ndarray) -> np.ndarray:
    both, context = counts
    return (both + strength * shorter) / (context + strength)


def _tokens(name: str, tokens: object, size: int, least: int) -> np.ndarray:
    array = token_array(name, tokens, size)
    if len(array) < least:
        raise ValueError(f"{name} must have at least {least} tokens, got {len(array)}")
    return array
