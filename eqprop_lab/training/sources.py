"""What a fit is fed with: how a later one knows it again, and how it goes on in it.

    facts      sizes, samplers, workers: what a loader says about itself
    data       a digest of the whole set, where it lies open (tensors, torch's data sets of them)
    first      a digest of each of the first batches, and the state of every generator before them

A loader is fed the same if facts and data agree, and if from that state it gives these batches
again, twice: a loader with a state that nobody can put back (a counter, a generator in a closure)
gives others the second time.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from eqprop_lab.datasets.splits import Batches, Split
from eqprop_lab.seeding import rng_state, set_rng_state
from eqprop_lab.training.batches import length

# batches that are looked at; what only changes later ones is seen by `data`, or not at all
FIRST = 4
# how far below a loader generators are looked for: loader.batch_sampler.sampler.generator is 3
DEPTH = 5
# How the state of a generator is had and put back, in types that a checkpoint holds.
GENERATORS: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    torch.Generator: (torch.Generator.get_state, torch.Generator.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.Generator: (
        lambda generator: _text(generator.bit_generator.state),
        lambda generator, text: setattr(generator.bit_generator, "state", json.loads(text)),
    ),
    np.random.RandomState: (
        lambda generator: _text(generator.get_state(False)),
        lambda generator, text: generator.set_state(json.loads(text)),
    ),
}
# What the data sets of torch are made of.
PARTS: dict[type, Callable[[Any], object]] = {
    Split: lambda split: (split.x, split.y),
    TensorDataset: lambda data: data.tensors,
    Subset: lambda data: (data.dataset, list(data.indices)),
    ConcatDataset: lambda data: data.datasets,
}


def generators(loader: object) -> dict[str, Any]:
    """Every random generator of a loader, its samplers and its data set, by the path to it."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    level: list[tuple[str, object]] = [("", loader)]
    for _ in range(DEPTH):
        below: list[tuple[str, object]] = []
        for path, holder in level:
            for name, value in _parts(holder):
                if id(value) in seen:
                    continue
                seen.add(id(value))
                if isinstance(value, tuple(GENERATORS)):
                    found[f"{path}{name}"] = value
                else:
                    below.append((f"{path}{name}.", value))
        level = below
    return found


def _parts(holder: object) -> list[tuple[str, object]]:
    """What may hold a generator: attributes, and the members of short lists."""
    if isinstance(holder, list | tuple):
        return [(str(number), value) for number, value in enumerate(holder[:16])]
    if isinstance(holder, Mapping):
        return [(str(key), value) for key, value in list(holder.items())[:16]]
    if isinstance(holder, Tensor | nn.Module | type) or not hasattr(holder, "__dict__"):
        return []
    return [(name, value) for name, value in vars(holder).items() if name != "_iterator"]


def states(loader: object) -> dict[str, Any]:
    """The state of every generator of a loader, in plain containers."""
    return {path: _handles(own)[0](own) for path, own in generators(loader).items()}


def _handles(generator: Any) -> tuple[Callable[[Any], Any], Callable[[Any, Any], object]]:
    return next(found for kind, found in GENERATORS.items() if isinstance(generator, kind))


def _text(state: object) -> str:
    return json.dumps(state, default=lambda array: array.tolist())


def set_states(loader: object, kept: Mapping[str, Any]) -> None:
    """Put the generators of a loader back. Raises ValueError when it has other ones."""
    own = generators(loader)
    if own.keys() != kept.keys():
        raise ValueError(f"a loader had the generators {_names(kept)}, now it has {_names(own)}")
    try:
        for path, generator in own.items():
            _handles(generator)[1](generator, kept[path])
    except (TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise ValueError(f"the state of a generator is of another kind: {error}") from error


def _names(paths: Mapping[str, Any]) -> str:
    return ", ".join(sorted(paths)) or "none of its own"


def facts(loader: object) -> dict[str, Any] | None:
    """What a loader says about itself, as plain values; None for no loader."""
    if loader is None:
        return None
    said: dict[str, Any] = {"kind": type(loader).__name__}
    if isinstance(loader, Batches):
        return said | loader.facts
    if isinstance(loader, DataLoader):
        said |= {name: getattr(loader, name) for name in ("batch_size", "drop_last", "num_workers")}
        said |= {
            name: type(getattr(loader, name, None)).__name__
            for name in ("sampler", "batch_sampler", "dataset")
        }
        return said | {"samples": length(loader.dataset)}
    return said | {"batches": length(loader)}


def digest(loader: object) -> str | None:
    """A digest of all samples of a loader, in their order; None where they do not lie open."""
    found = hashlib.blake2b(digest_size=16)
    data = loader.split if isinstance(loader, Batches) else getattr(loader, "dataset", loader)
    return found.hexdigest() if _feed(found, data) else None


def data_of(note: dict[str, Any], loader: object) -> str | None:
    """The `digest` of a loader, made once and noted: all its samples are read for it."""
    if "data" not in note:
        note["data"] = digest(loader)
    data: str | None = note["data"]
    return data


def _feed(found: Any, item: Any) -> bool:
    """Digest a nested value; False where reading a part of it would run the code of others."""
    if isinstance(item, np.ndarray) and item.dtype.kind not in "biufc":
        return False
    if isinstance(item, Tensor | np.ndarray):
        # Copied: torch warns of arrays that it may not write to.
        tensor = item if isinstance(item, Tensor) else torch.from_numpy(np.array(item))
        array = tensor.detach().cpu().contiguous()
        found.update(f"{tuple(array.shape)} {array.dtype};".encode())
        found.update(array.reshape(-1).view(torch.uint8).numpy())
        return True
    if item is None or isinstance(item, bool | int | float | str | bytes):
        found.update(f"{item!r};".encode())
        return True
    if type(item) in PARTS:
        item = PARTS[type(item)](item)
    elif isinstance(item, Mapping):
        item = sorted(item.items())
    if not isinstance(item, list | tuple):
        return False
    found.update(f"{len(item)} of;".encode())
    return all([_feed(found, part) for part in item])


def digest_of(value: object) -> str:
    """A digest of nested containers of tensors, numbers and texts, as of a batch."""
    found = hashlib.blake2b(digest_size=16)
    _feed(found, value)
    return found.hexdigest()


def watched(loader: object, batches: Any, note: dict[str, Any], cuda: bool) -> Iterator[Any]:
    """The `batches` of a loader again; the first of them, and the generators before, are noted."""
    note |= {"states": states(loader), "rng": rng_state(cuda), "first": []}
    for batch in batches:
        if len(note["first"]) < FIRST:
            note["first"].append(digest_of(batch))
        yield batch


def check_same(name: str, loader: Any, note: Mapping[str, Any]) -> None:
    """Raise ValueError saying what is not the same. All generators are left as they were."""
    check_facts(name, loader, note)
    if loader is None:
        return
    if isinstance(loader, Iterator):
        raise ValueError(
            f"the {name} loader can be read once only; give one that begins anew in every epoch"
        )
    if note["data"] != digest(loader):
        raise ValueError(f"the {name} loader holds other data")
    if "first" not in note:
        return  # stopped before its first batch
    before = states(loader)
    everywhere = rng_state(torch.cuda.is_available())
    try:
        for attempt in ("", " each time: it has a state that cannot be put back"):
            set_states(loader, note["states"])
            set_rng_state(note["rng"])
            first = [digest_of(batch) for _, batch in zip(note["first"], loader, strict=False)]
            if first != note["first"]:
                raise ValueError(f"the {name} loader gives other batches{attempt}")
    finally:
        set_states(loader, before)
        set_rng_state(everywhere)


def check_facts(name: str, loader: object, note: Mapping[str, Any]) -> None:
    """Raise ValueError when a loader says other things about itself."""
    other = [
        f"{k} was {v!r}, now it is {here!r}"
        for k, v, here in _pairs(note["facts"], facts(loader))
        if v != here
    ]
    if other:
        raise ValueError(f"the {name} loader is another one: {', '.join(other)}")


def _pairs(
    one: Mapping[str, Any] | None, two: Mapping[str, Any] | None
) -> list[tuple[str, Any, Any]]:
    if one is None or two is None or one["kind"] != two["kind"]:
        return [("it", one and one["kind"], two and two["kind"])]
    return [(key, one.get(key), two.get(key)) for key in dict.fromkeys((*one, *two))]
