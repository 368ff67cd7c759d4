"""Text from a language model, one token after the other.

    z = logits of the last token,    next ~ softmax(z / temperature) over the top k,    again

    context="cache"    keys and values of the tokens so far are kept, the new token alone is worked
                       on; a full cache begins anew with the last half of it, at positions 0..
    context="window"   the last `context_length` tokens are worked through for every token

Both see the same tokens, and so give the same logits, until the cache is full for the first time.
At an equilibrium the cache is exact: token i depends on the settled states of the tokens before it
alone, and these never move again. Rows are not dropped from a full cache: the states that stay
were settled with them in sight, and at other positions. The cache belongs to the call: threads
share a model.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, overload

import torch
from torch import Tensor, nn

from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.equilibrium.contract import EquilibriumModel, holding
from eqprop_lab.equilibrium.relaxation import ConvergenceWarning, settle
from eqprop_lab.equilibrium.state import State, Steppable
from eqprop_lab.validation import a_seed, integer, one_of, positive_int, real, shown

CONTEXTS = ("cache", "window")
STEPS = 1000  # of a free phase here: twice what rate 0.95 needs in float64
ROUNDINGS, FINEST = 8, 1e-12  # relative residual it ends at: roundings of the dtype, at least this


@dataclass(frozen=True)
class Cache:
    """What the tokens so far leave behind: their number, and tensors of every layer, keys and
    values (B, H, 1 + tokens, d_h), the sink first.
    """

    tokens: int = 0
    kept: tuple[tuple[Tensor, ...], ...] = ()


def tolerance(dtype: torch.dtype) -> float:
    """The relative residual at which a token has settled: 1e-6 in float32, 1e-12 in float64."""
    return max(ROUNDINGS * torch.finfo(dtype).eps, FINEST)


def settled(model: Steppable, state: State, drive: State, tokens: int | None = None) -> State:
    """Where a state ends under a drive, to `tolerance`. Warns ConvergenceWarning if it does not."""
    tol = tolerance(state[0].dtype)
    end = settle(model, state, drive, max_steps=STEPS, tol=tol, tokens=tokens)
    if end.missed is not None:
        warnings.warn(f"generation: {end.missed}", ConvergenceWarning, stacklevel=2)
    return end.state


class Sampler:
    """Logits (B, V) -> the next token (B, 1).

    Args: temperature >= 0 (0: the largest logit); top_k, only among so many largest logits (None:
        all); seed, of a generator of its own (None: torch's global one).
    Raises: TypeError, ValueError naming the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.temperature = real("temperature", temperature, at_least=0.0)
        self.top_k = None if top_k is None else integer("top_k", top_k, at_most=vocab_size)
        self.generator: torch.Generator | None = None
        if seed is not None:
            number = a_seed("seed", seed)
            self.generator = torch.Generator(device=device).manual_seed(number)

    def __call__(self, logits: Tensor) -> Tensor:
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("the logits are not finite: the weights have diverged")
        if self.temperature == 0:
            return logits.argmax(1, keepdim=True)
        count = logits.shape[1] if self.top_k is None else self.top_k
        values, tokens = logits.float().topk(count)
        # from the largest down, so that no temperature overflows
        cold = max(self.temperature, torch.finfo(torch.float32).tiny)
        chances = torch.softmax((values - values[:, :1]) / cold, 1)
        return tokens.gather(1, torch.multinomial(chances, 1, generator=self.generator))


@lru_cache
def default_vocab(vocab_size: int) -> Vocabulary | None:
    """Tiny Shakespeare's characters or printable ASCII, where there are as many; else None."""
    known = (Vocabulary.shakespeare(), Vocabulary.ascii())
    return next((vocab for vocab in known if len(vocab) == vocab_size), None)


class Generates(nn.Module, ABC):
    """Mixin: `generate`, and the vocabulary by which a model reads and writes text.

    A subclass gives `check_prompt`; `begin` and `extend` where a cache is worth having, without
    which every token costs a window.
    Attributes: vocab_size; num_classes, of a model that gives no tokens.
    """

    vocab_size: int
    max_seq_len: int | None = None
    num_classes: int | None = None
    _vocab: Vocabulary | None = None

    @property
    def vocab(self) -> Vocabulary | None:
        """The symbols of the tokens: those given (by `fit`, from the loader, or set here), else
        tiny Shakespeare's for 65 tokens, printable ASCII for 96, None for any other number.

        Setting it raises TypeError, ValueError for another number of symbols; None takes it back.
        """
        return default_vocab(self.vocab_size) if self._vocab is None else self._vocab

    @vocab.setter
    def vocab(self, vocab: Vocabulary | None) -> None:
        if vocab is not None:
            check_vocab(vocab, self.vocab_size)
        self._vocab = vocab

    @property
    def given_vocab(self) -> Vocabulary | None:
        """`vocab`, without the guess by the number of tokens."""
        return self._vocab

    def get_extra_state(self) -> Tensor:
        """The vocabulary that was given, for `state_dict`: JSON as uint8, empty for none."""
        text = b"" if self._vocab is None else json.dumps(self._vocab.state).encode()
        return torch.tensor(list(text), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Raises ValueError for what is no vocabulary of this model."""
        text = bytes(state.tolist())
        self.vocab = Vocabulary.from_state(json.loads(text)) if text else None

    @property
    def context_length(self) -> int:
        """How many of the last tokens a prediction can see."""
        if self.max_seq_len is None:
            raise TypeError(
                f"generate: {type(self).__name__} must say how many of the last tokens it can see: "
                "set max_seq_len, or override context_length"
            )
        return self.max_seq_len

    @abstractmethod
    def check_prompt(self, x: Tensor) -> None:
        """Raise TypeError, ValueError unless x is tokens (B, T) of this model, T as long as any."""

    def begin(self, x: Tensor) -> tuple[Tensor, Cache | None]:
        """(logits (B, V) after tokens (B, T), what they leave behind: None, nothing is kept).

        Here: those of the whole window, settled where the model is an equilibrium; nothing is kept.
        """
        if not isinstance(self, EquilibriumModel):
            return self(x)[:, -1], None
        drive = self.drive(x)
        state = settled(self, self.initial_state(drive), drive, self.tokens(x))
        return self.readout(state)[x.shape[1] - 1 :: x.shape[1]], None

    def extend(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """The same for one more token (B, 1), after those of the cache."""
        raise TypeError(
            f"generate: {type(self).__name__}.begin keeps a cache, so the class needs "
            "extend(x, cache) too; a begin that returns None for it works through the window for "
            "every token"
        )

    @overload
    def generate(self, prompt: str, *args: Any, **options: Any) -> str: ...

    @overload
    def generate(self, prompt: Tensor, *args: Any, **options: Any) -> Tensor: ...

    def generate(
        self,
        prompt: str | Tensor,
        max_new_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
        *,
        context: str = "cache",
        stream: Callable[[Any], object] | None = None,
    ) -> str | Tensor:
        """The prompt and `max_new_tokens` more: text -> text, tokens (B, T) -> tokens (B, T + n).

        Args:
            prompt: of any length, the model sees its last tokens; "" begins after a line end.
            temperature, top_k, seed: as in `Sampler`. context: "cache" or "window", see the module.
            stream: called with every new piece of text, or token (B,), as soon as it is there.
        Raises: TypeError, ValueError naming the argument, before any work; DivergenceError. Warns
        ConvergenceWarning for a token that does not settle.
        """
        if self.num_classes is not None:
            raise TypeError(
                f"generate: this model tells {self.num_classes} classes apart, it has no next "
                "token; build it without num_classes"
            )
        count = positive_int("max_new_tokens", max_new_tokens)
        one_of("context", context, CONTEXTS)
        if stream is not None and not callable(stream):
            raise TypeError(f"stream must be a function of a piece, or None, got {shown(stream)}")
        device = next(self.parameters()).device
        sampler = Sampler(self.vocab_size, temperature, top_k, seed, device)
        found = self._tokens_of(prompt)
        vocab = self.vocab if isinstance(prompt, str) else None
        parts = [found]
        for token in self._continued(found, count, sampler, context == "cache"):
            if stream is not None:
                stream(token[:, 0] if vocab is None else piece(vocab, parts[-1], token))
            parts.append(token)
        whole = torch.cat(parts, 1)
        return whole if vocab is None else vocab.decode(whole[0])

    def _tokens_of(self, prompt: object) -> Tensor:
        if isinstance(prompt, Tensor):
            self.check_prompt(prompt)
            return prompt.long()
        if not isinstance(prompt, str):
            raise TypeError(f"prompt must be a str or a tensor of tokens, got {shown(prompt)}")
        vocab = self.vocab
        if vocab is None:
            raise ValueError(
                f"prompt is a text, but nobody has told this model which symbols its "
                f"{self.vocab_size} tokens are: set model.vocab = Vocabulary.of(text), train it "
                "with a loader of get_lm_dataset, or give tokens (B, T)"
            )
        try:
            tokens = vocab.encode(prompt)
        except ValueError as error:
            raise ValueError(f"prompt: {error}") from error
        if not len(tokens):
            if "\n" not in vocab:
                raise ValueError(
                    f"prompt must hold a {vocab.level} to go on from, got {shown(prompt)}: the "
                    "vocabulary has no line end that could stand for it"
                )
            tokens = vocab.encode("\n")
        return tokens[None].to(next(self.parameters()).device)

    def _continued(self, x: Tensor, count: int, sampler: Sampler, keep: bool) -> Iterator[Tensor]:
        """The next tokens (B, 1) after x (B, T). Nothing is held while the caller has the turn."""
        longest = self.context_length
        cores = [core for core in self.modules() if isinstance(core, EquilibriumModel)]
        with torch.no_grad():
            frozen = [(core, core.effective_weights()) for core in cores]
        cache: Cache | None = None
        for _ in range(count):
            with torch.no_grad(), ExitStack() as stack:
                for core, weights in frozen:
                    stack.enter_context(holding(core, weights.copy))
                if cache is None or not keep:
                    logits, cache = self.begin(x[:, -longest:])
                elif cache.tokens == longest:
                    logits, cache = self.begin(x[:, -max(1, longest // 2) :])
                else:
                    logits, cache = self.extend(x[:, -1:], cache)
                token = sampler(logits)
            x = torch.cat([x[:, -longest:], token], 1)
            yield token


def piece(vocab: Vocabulary, before: Tensor, token: Tensor) -> str:
    """What a token (1, 1) adds to a text that ends with the last of `before` (1, T)."""
    last = before[0, -1:]
    return vocab.decode(torch.cat([last, token[0]]))[len(vocab.decode(last)) :]


def check_vocab(vocab: object, vocab_size: int) -> None:
    """Raise TypeError, ValueError unless it is a Vocabulary of so many symbols."""
    if not isinstance(vocab, Vocabulary):
        raise TypeError(f"vocab must be a Vocabulary, got {shown(vocab)} ({type(vocab).__name__})")
    if len(vocab) != vocab_size:
        raise ValueError(
            f"vocab must have as many symbols as the model has tokens, got {len(vocab)} for "
            f"vocab_size={vocab_size}; build the model with vocab_size=len(vocab)"
        )
