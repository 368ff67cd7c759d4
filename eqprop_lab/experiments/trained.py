"""Trained networks that come with the package: a class looks at states without training first.

    model = load_trained("digits_conv");   trained_info("digits_conv")["test_accuracy"]

A network is one safetensors file: its parameters and buffers, and in the header what built and
trained it, all under one fingerprint.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from eqprop_lab.experiments.runs import tensors_digest
from eqprop_lab.files import replace_file
from eqprop_lab.models.backprop import geometry
from eqprop_lab.models.conv import ConvEqProp, conv_maps
from eqprop_lab.training.finite import check_parameters
from eqprop_lab.validation import a_path, one_of, positive_int, shown

ENDING = ".safetensors"
METADATA = "eqprop_lab"  # key of the header
INFO = (
    "dataset",
    "recipe",
    "estimator",
    "seed",
    "validation_accuracy",
    "test_accuracy",
    "versions",
    "date",
    "device",
)  # what a reader must be told about weights


class TrainedError(RuntimeError):
    """A file of trained weights that cannot be used; the message names the file and the reason."""


def list_trained() -> list[str]:
    """Names of the networks that come with the package, sorted."""
    return sorted(path.stem for path in _folder().glob(f"*{ENDING}"))


def load_trained(name: str | Path) -> ConvEqProp:
    """A trained network on the CPU, in eval mode.

    Logits and certificate are those of the network that was saved.

    name: one of `list_trained`, or the path of a file (a Path, or a text that ends in
        ".safetensors").
    Raises: ValueError for an unknown name; TrainedError for a file that is missing, damaged or does
    not fit its model.
    """
    path = _path(name)
    tensors, header = _read(path)
    params = header["params"]
    with _own_defaults():
        try:
            needed = _size(params)
            there = sum(tensor.numel() for tensor in tensors.values())
            if needed > there:
                raise TrainedError(
                    f"{path.name}: its weights have {there} values, "
                    f"those of its params {params} would have {needed}"
                )
            model = ConvEqProp(**params)
        except (TypeError, ValueError) as error:
            raise TrainedError(f"{path.name}: its params build no ConvEqProp: {error}") from error
        try:
            check_parameters(tensors)
            model.load_state_dict(tensors)
        except ValueError as error:
            raise TrainedError(f"{path.name}: {error}") from error
        except RuntimeError as error:
            raise TrainedError(
                f"{path.name}: its weights are not those of its params {params}: {error}"
            ) from error
    return model.eval()


def trained_info(name: str | Path) -> dict[str, Any]:
    """What is known about a trained network: its model, params, their number, and `INFO`.

    Arguments and errors as in `load_trained`.
    """
    return {key: value for key, value in _read(_path(name))[1].items() if key != "fingerprint"}


def save_trained(model: ConvEqProp, name: str | Path, info: dict[str, Any]) -> Path:
    """Store a trained network, whole or not at all, and return the path of its file.

    name: as in `load_trained`; a mere name goes into the package. info: plain values, at least the
        keys of `INFO`.
    Raises: TypeError, ValueError naming the argument, before anything is written; OSError.
    """
    if type(model) is not ConvEqProp:
        raise TypeError(f"model must be a ConvEqProp, got {type(model).__name__}")
    kinds = {p.dtype for p in model.parameters()}
    if kinds != {torch.float32}:
        raise TypeError(
            f"model must be of torch.float32 throughout, got {', '.join(sorted(map(str, kinds)))}"
        )
    missing = [key for key in INFO if key not in info]
    if missing:
        raise ValueError(f"info must have {', '.join(INFO)}; missing: {', '.join(missing)}")
    seed = info["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"info['seed'] must be an integer, got {seed!r}")
    path = _file(name)
    if path is None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)):
            raise ValueError(
                f"name must be letters, digits, _ and -, or the path of a {ENDING} file, "
                f"got {str(name)!r}"
            )
        path = _folder() / f"{name}{ENDING}"
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    try:
        check_parameters(tensors)
    except ValueError as error:
        raise ValueError(f"model cannot be saved: {error}") from error
    header = {
        **info,
        "model": "ConvEqProp",
        "params": _params(model, seed),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    try:
        text = json.dumps(header | {"fingerprint": seal(tensors, header)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"info must hold plain, finite values only: {error}") from error
    return replace_file(path, lambda file: file.write(save(tensors, {METADATA: text})))


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


def _size(params: Mapping[str, Any]) -> int:
    """Number of parameters of ConvEqProp(**params), without building it.

    Raises TypeError, ValueError.
    """
    sizes = inspect.signature(ConvEqProp).bind(**params).arguments
    names = ("input_channels", "hidden_channels", "image_size", "kernel_size", "strides")
    maps = conv_maps(**{name: sizes[name] for name in names if name in sizes})
    layers = sum(math.prod(linear.weight_shape) + math.prod(linear.bias_shape) for linear in maps)
    return layers + positive_int("output_dim", sizes["output_dim"]) * (
        math.prod(maps[-1].out_shape) + 1
    )


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
        header = json.loads((metadata or {})[METADATA])
        missing = [
            key for key in (*INFO, "model", "params", "fingerprint") if key not in dict(header)
        ]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TrainedError(
            f"{path.name} does not say what it holds: save_trained writes that in its header"
        ) from error
    if missing:
        raise TrainedError(f"{path.name}: its header says nothing about {', '.join(missing)}")
    if header["model"] != "ConvEqProp":
        raise TrainedError(f"{path.name} holds a {header['model']!r}, not a ConvEqProp")
    if header["fingerprint"] != seal(tensors, header):
        raise TrainedError(f"{path.name} is damaged: it is not what was saved")
    if not isinstance(header["params"], dict):
        raise TrainedError(f"{path.name}: its params must be a mapping, got {header['params']!r}")
    return tensors, header


def _params(model: ConvEqProp, seed: int) -> dict[str, Any]:
    """The arguments that build `model` anew, but for its weights.

    A seed keeps the global generator as it is.
    """
    sizes = geometry(model) | {"seed": seed}
    rest = [key for key in inspect.signature(ConvEqProp).parameters if key not in sizes]
    return sizes | {key: getattr(model, key) for key in rest}
