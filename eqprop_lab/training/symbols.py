"""Which symbols the tokens of a loader are, and that a model trained on them means the same.

A model has numbers for tokens, a loader of text has the symbols too: `fit` takes them over, so that
the model writes text; tokens of another text would be other symbols under the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.models.language.generation import check_vocab
from eqprop_lab.models.language.tokens import TokenModel


def shared_vocab(model: nn.Module, loaders: Mapping[str, object]) -> Vocabulary | None:
    """The vocabulary of the loaders that have one; None: none has, or the model takes none.

    Raises TypeError, ValueError for one of another size than the model's, two that differ, or one
    that differs from what the model was given before.
    """
    if not isinstance(model, TokenModel):
        return None
    found = {name: vocab for name, loader in loaders.items() if (vocab := of(loader)) is not None}
    for vocab in found.values():
        check_vocab(vocab, model.vocab_size)
    known = {"model": model.given_vocab} if model.given_vocab is not None else {}
    sources = [*(known | found).items()]
    for (one, first), (two, second) in zip(sources, sources[1:], strict=False):
        if first.state != second.state:
            raise ValueError(
                f"{two} must have the vocabulary of {one}, {first}, got {second}: the same numbers "
                "would be other symbols; read the text with get_lm_dataset(..., vocab=...), or "
                "begin anew with model.vocab = None"
            )
    return next(iter(found.values()), None)


def of(loader: object) -> Vocabulary | None:
    """The vocabulary of a loader, None where it has none."""
    vocab = getattr(loader, "vocab", None)
    return vocab if isinstance(vocab, Vocabulary) else None


def take_vocab(model: nn.Module, vocab: Vocabulary | None) -> None:
    """Give a vocabulary of `shared_vocab` to its model."""
    if vocab is not None and isinstance(model, TokenModel):
        model.vocab = vocab
