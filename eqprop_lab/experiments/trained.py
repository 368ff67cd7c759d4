"""Trained networks that come with the package: a class looks at states without training first.

    model = load_trained("digits_conv");   trained_info("digits_conv")["test_accuracy"]
    model = load_trained("shakespeare_hybrid");   trained_info("shakespeare_hybrid")["test_loss"]

A network is one safetensors file: its parameters and buffers, and in the header what built and
trained it, all under one fingerprint. A language model brings its vocabulary (`model.vocab`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.experiments.rebuilding import KINDS, Kind, kind_name
from eqprop_lab.experiments.runs import tensors_digest
from eqprop_lab.files import replace_file
from eqprop_lab.models.language.generation import check_vocab
from eqprop_lab.training.finite import check_parameters
from eqprop_lab.validation import a_path, one_of, real, shown

ENDING = ".safetensors"
METADATA = "eqprop_lab"  # key of the header
VOCAB = "vocab"
EXTRA = "_extra_state"  # what a module keeps beside its tensors: the header says it instead
# what a reader must be told about weights, beside the figures of their kind (see `info_keys`)
INFO = ("dataset", "recipe", "estimator", "seed", "versions", "date", "device")


class TrainedError(RuntimeError):
    """A file of trained weights that cannot be used; the message names the file and the reason."""


def list_trained() -> list[str]:
    """Names of the networks that come with the package, sorted."""
    return sorted(path.stem for path in _folder().glob(f"*{ENDING}"))


def info_keys(model: str) -> tuple[str, ...]:
    """The keys that `info` must have for a class: INFO, and accuracies or, of a language model,
    losses (nats a token) and bits per character. A TransformerEqProp that sorts is, as a class of
    its own, a "TransformerEqProp with num_classes".
    """
    return (*INFO, *KINDS[one_of("model", model, KINDS)].figures)


def load_trained(name: str | Path) -> Any:
    """A trained network on the CPU, in eval mode: of one of the classes in `rebuilding.KINDS`.

    Logits, certificate and vocabulary are those of the network that was saved.

    name: one of `list_trained`, or the path of a file (a Path, or a text that ends in
        ".safetensors").
    Raises: ValueError for an unknown name; TrainedError for a file that is missing, damaged or does
    not fit its model.
    """
    path = _path(name)
    tensors, header = _read(path)
    kind, params = KINDS[header["model"]], header["params"]
    vocab = _vocab(path, header) if kind.reads else None
    with _own_defaults():
        model = _built(path, kind, header, tensors)
        try:
            check_parameters(tensors)
            model.load_state_dict(_extra(model) | tensors)
        except ValueError as error:
            raise TrainedError(f"{path.name}: {error}") from error
        except RuntimeError as error:
            raise TrainedError(
                f"{path.name}: its weights are not those of its params {params}: {error}"
            ) from error
    if vocab is not None:
        model.vocab = vocab
    return model.eval()


def _built(path: Path, kind: Kind, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """The network of the header's params, with weights of its own. Raises TrainedError."""
    try:
        reason = kind.misfit(header["params"], tensors)
        if reason is not None:
            raise TrainedError(f"{path.name}: its weights {reason}")
        model = kind.build(**header["params"])
        if kind_name(model) != header["model"]:
            raise TrainedError(
                f"{path.name}: its params build a {kind_name(model)}, not a {header['model']}"
            )
        return model
    except KeyError as error:
        raise TrainedError(f"{path.name}: its params say nothing about {error}") from error
    except (TypeError, ValueError) as error:
        raise TrainedError(
            f"{path.name}: its params build no {header['model']}: {error}"
        ) from error


def _extra(model: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in model.state_dict().items() if key.endswith(EXTRA)}


def trained_info(name: str | Path) -> dict[str, Any]:
    """What is known about a trained network: its class, params, their number, and
    `info_keys`.

    Arguments and errors as in `load_trained`.
    """
    return {key: value for key, value in _read(_path(name))[1].items() if key != "fingerprint"}


def save_trained(model: nn.Module, name: str | Path, info: dict[str, Any]) -> Path:
    """Store a trained network, whole or not at all, and return the path of its file.

    model: of one of the classes in `rebuilding.KINDS`, in float32; a language model with its
        Vocabulary as `model.vocab`. name: as in `load_trained`; a mere name goes into the package.
    info: plain values, at least the keys of `info_keys`.
    Raises: TypeError, ValueError naming the argument, before anything is written; OSError.
    """
    known = kind_name(model)
    kind = KINDS.get(known)
    if kind is None or type(model) is not kind.build:
        raise TypeError(f"model must be a {_one_of_them()}, got {known}")
    kinds = {p.dtype for p in model.parameters()}
    if kinds != {torch.float32}:
        raise TypeError(
            f"model must be of torch.float32 throughout, got {', '.join(sorted(map(str, kinds)))}"
        )
    _check_info(info, known)
    path = _file(name)
    if path is None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)):
            raise ValueError(
                f"name must be letters, digits, _ and -, or the path of a {ENDING} file, "
                f"got {str(name)!r}"
            )
        path = _folder() / f"{name}{ENDING}"
    params = kind.arguments(model) | {"seed": info["seed"]}
    tensors = _tensors(model)
    try:
        check_parameters(tensors)
    except ValueError as error:
        raise ValueError(f"model cannot be saved: {error}") from error
    reason = kind.misfit(params, tensors)
    if reason is not None:
        raise ValueError(f"model cannot be saved: its weights {reason}")
    header = {
        **info,
        "model": known,
        "params": params,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if kind.reads:
        header[VOCAB] = _given_vocab(model).state
    try:
        text = json.dumps(header | {"fingerprint": seal(tensors, header)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"info must hold plain, finite values only: {error}") from error
    return replace_file(path, lambda file: file.write(save(tensors, {METADATA: text})))


def _check_info(info: Mapping[str, Any], model: str) -> None:
    needed = info_keys(model)
    missing = [key for key in needed if key not in info]
    if missing:
        raise ValueError(f"info must have {', '.join(needed)}; missing: {', '.join(missing)}")
    seed = info["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"info['seed'] must be an integer, got {seed!r}")
    for key in KINDS[model].figures:
        real(f"info[{key!r}]", info[key], at_least=0.0)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers as they are stored."""
    state = {key: value for key, value in model.state_dict().items() if not key.endswith(EXTRA)}
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _given_vocab(model: nn.Module) -> Vocabulary:
    """Not the one that is guessed by the number of tokens: in a file it would be said for sure."""
    vocab = model.given_vocab
    if not isinstance(vocab, Vocabulary):
        raise ValueError(
            "model must have been given its symbols: set model.vocab, the vocabulary of the "
            "loader it was trained with"
        )
    return vocab


def _vocab(path: Path, header: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a header. Raises TrainedError."""
    try:
        vocab = Vocabulary.from_state(header[VOCAB])
        check_vocab(vocab, header["params"].get("vocab_size"))
    except (TypeError, ValueError) as error:
        raise TrainedError(f"{path.name}: its vocabulary is none of its model: {error}") from error
    return vocab


def _one_of_them() -> str:
    *first, last = KINDS
    return f"{', '.join(first)} or {last}"


@contextmanager
def _own_defaults() -> Iterator[None]:
    """Not those of the caller: another dtype, device or mode would give another network."""
    before = torch.get_default_dtype()
    with torch.inference_mode(False), torch.device("cpu"):
        try:
            if before != torch.float32:
                torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(before)


def seal(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """The fingerprint of a file: of its tensors and of all that its header says, in any order."""
    said = json.dumps(
        {key: value for key, value in header.items() if key != "fingerprint"}, sort_keys=True
    )
    return hashlib.sha256(f"{tensors_digest(tensors)} {said}".encode()).hexdigest()


def _folder() -> Path:
    """Where the networks of the package lie."""
    return Path(str(resources.files("eqprop_lab").joinpath("assets/weights")))


def _file(name: str | Path) -> Path | None:
    """The file meant by `name`, None where it is the name of a network of the package."""
    if isinstance(name, Path) or (isinstance(name, str) and name.endswith(ENDING)):
        if Path(name).suffix != ENDING:
            raise ValueError(f"name: a file of trained weights ends in {ENDING}, got {str(name)!r}")
        return a_path("name", name)
    if not isinstance(name, str):
        raise TypeError(f"name must be a text or a path, got {shown(name)} ({type(name).__name__})")
    return None


def _path(name: str | Path) -> Path:
    """The file to read for `name`."""
    return _file(name) or _folder() / f"{one_of('name', name, list_trained())}{ENDING}"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, header) of a file. Raises TrainedError."""
    if not path.is_file():
        raise TrainedError(f"{path} is missing: there is no such file")
    try:
        with torch.device("cpu"), safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata()
    except (SafetensorError, OSError) as error:
        raise TrainedError(f"{path.name} is damaged, or it is no {ENDING} file: {error}") from error
    try:
        header = dict(json.loads((metadata or {})[METADATA]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TrainedError(
            f"{path.name} does not say what it holds: save_trained writes that in its header"
        ) from error
    _check_keys(path, header, (*INFO, "model", "params", "fingerprint"))
    known = header["model"]
    if not isinstance(known, str) or known not in KINDS:
        raise TrainedError(f"{path.name} holds a {known!r}, not a {_one_of_them()}")
    _check_keys(path, header, (*info_keys(known), *([VOCAB] if KINDS[known].reads else [])))
    if header["fingerprint"] != seal(tensors, header):
        raise TrainedError(f"{path.name} is damaged: it is not what was saved")
    if not isinstance(header["params"], dict):
        raise TrainedError(f"{path.name}: its params must be a mapping, got {header['params']!r}")
    return tensors, header


def _check_keys(path: Path, header: Mapping[str, Any], needed: Iterable[str]) -> None:
    missing = [key for key in needed if key not in header]
    if missing:
        raise TrainedError(f"{path.name}: its header says nothing about {', '.join(missing)}")
