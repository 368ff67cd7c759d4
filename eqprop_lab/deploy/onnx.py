"""Models as ONNX files, which onnxruntime and many other programs run without torch.

    z = readout(s_T),   s_(k+1) = step(s_k, u),   s_0 = initial_state(u),   u = drive(x)

Bounded weights are written as what they are when the file is made, constants of norm below their
cap. The T steps of a relaxation are one ONNX Loop (`loops`), so that the file is as large as one
step; every network is compared with torch before its file is written.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import itertools
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils import parametrize

from eqprop_lab.acceleration import readable_tf32, uncompile_model
from eqprop_lab.deploy.onnx_file import EXTRA, session_of
from eqprop_lab.equilibrium.block import EquilibriumBlock
from eqprop_lab.equilibrium.contract import EquilibriumModel
from eqprop_lab.files import check_target, replace_file
from eqprop_lab.lazy import optional
from eqprop_lab.models.language.tokens import TokenModel
from eqprop_lab.modules import a_module
from eqprop_lab.training.finite import check_parameters
from eqprop_lab.validation import a_path, shape, shown, switch
from eqprop_lab.version import __version__

FEED_FORWARD, RELAXATION = 1e-5, 1e-4  # how far logits may be off, relative to the largest (or 1)
BATCHES = (1, 5)  # that are compared, where any may come
LARGEST = 2**31  # bytes of a file of this kind
PACKAGES = ("onnx", "onnx_ir", "onnxscript")


class ExportError(RuntimeError):
    """A model that cannot be written as ONNX; the message names it and the reason."""


def export_to_onnx(
    model: nn.Module,
    path: str | Path,
    input_shape: int | Sequence[int],
    *,
    dynamic_batch: bool = True,
    unroll: bool = False,
    check: bool = True,
) -> Path:
    """Write a model as one ONNX file, x -> logits, whole or not at all, and return its path.

    The model's parameters and mode stay as they are; the file holds it in eval mode, after
    `max_steps` plain steps of each relaxation (an EquilibriumBlock: its `free_steps`). Input "x",
    float32, or int64 tokens for a language model; output "logits".

    Args:
        model: any model of the package, or a module of torch's layers and EquilibriumBlocks, in
            float32 on the CPU. path: the file, replaced if it is there.
        input_shape: of x with its batch, as (1, 784), (1, 1, 28, 28) or, for tokens, (1, 128).
        dynamic_batch: the batch size is left open (and, for tokens, the length up to the model's
            longest); False: exactly `input_shape`.
        unroll: write every step of a relaxation, for programs that know no Loop: as many times
            larger as there are steps.
        check: compare with torch on random inputs before writing: logits within 1e-5, or 1e-4 after
            a relaxation, relative to the largest one or to 1. False needs no onnxruntime.
    Raises: TypeError, ValueError naming the argument; ImportError without the extra `onnx`; OSError
        for a path that cannot be written, before any work; ExportError naming the model, for one
        whose forward cannot be traced or whose logits differ.
    """
    target = a_path("path", path)
    dynamic, unroll, check = (
        switch("dynamic_batch", dynamic_batch), switch("unroll", unroll), switch("check", check)
    )  # fmt: skip
    size = shape("input_shape", input_shape)
    _check_model(model)
    _check_packages(check)
    check_target(target)
    with torch.no_grad():
        plain = _plain(model)
        x = _inputs(plain, size)
        free = _open_axes(plain, x) if dynamic else {}
        blob = _written(plain, x, free, unroll)
        if check:
            _compare(blob, plain, _trials(size, free))
    return replace_file(target, lambda file: file.write(blob))


def _check_model(model: nn.Module) -> None:
    """Raise TypeError, ValueError unless a graph can say all that the model does."""
    a_module("model", model)
    name = type(model).__name__
    held = list(itertools.chain(model.named_parameters(), model.named_buffers()))
    for key, tensor in held:
        if tensor.device.type != "cpu":
            raise ValueError(
                f"model must be on the CPU, {name}.{key} is on {tensor.device}: "
                "move it, or a copy, with model.cpu()"
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise TypeError(
                f"model must be of torch.float32 throughout, {name}.{key} is {tensor.dtype}: "
                "convert it, or a copy, with model.float()"
            )
    for key, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            where = f"its module {key!r} has" if key else "it has"
            raise ValueError(
                f"model must have no forward hooks, which a file cannot hold: {where} some "
                f"({name}); remove them, or export a model without"
            )
    if sum(tensor.nbytes for _, tensor in held) >= LARGEST:
        raise ValueError(f"model must be smaller than 2 GiB to be one ONNX file ({name})")
    try:
        check_parameters(dict(held))
    except ValueError as error:
        raise ValueError(f"model ({name}) cannot be exported: {error}") from error


def _check_packages(check: bool) -> None:
    for package in PACKAGES:
        optional(package, "export_to_onnx", EXTRA, package)
    if check:
        install = f"{EXTRA}, or check=False"
        optional("onnxruntime", "export_to_onnx", install, "onnxruntime")


if TYPE_CHECKING:
    HAS_ONNX: bool
else:

    def __getattr__(name: str) -> bool:
        # Asked for, not at import: the packages take a second to load, and being found is not all.
        if name != "HAS_ONNX":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            _check_packages(True)
        except ImportError:
            return False
        return True


def _plain(model: nn.Module) -> nn.Module:
    """A copy in eval mode, none of it compiled. Raises ExportError."""
    try:
        twin = copy.deepcopy(model).eval()
    except Exception as error:
        raise ExportError(f"{type(model).__name__} cannot be copied: {_why(error)}") from error
    for module in twin.modules():
        uncompile_model(module)
    return twin


def _inputs(model: nn.Module, size: Sequence[int]) -> Tensor:
    """Random inputs of that shape. Raises ValueError unless the model takes them."""
    x = _random(model, size)
    try:
        model(x)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"input_shape must be that of a batch {type(model).__name__} takes, its first number "
            f"the size of the batch, got {shown(tuple(size))}: {_why(error)}"
        ) from error
    return x


def _random(model: nn.Module, size: Sequence[int]) -> Tensor:
    """Tokens for a language model, else normal numbers; the global generator stays as it is."""
    generator = torch.Generator(device="cpu").manual_seed(math.prod(size))
    if isinstance(model, TokenModel):
        return torch.randint(model.vocab_size, tuple(size), generator=generator, device="cpu")
    return torch.randn(tuple(size), generator=generator, dtype=torch.float32, device="cpu")


def _open_axes(model: nn.Module, x: Tensor) -> dict[int, str]:
    """The axes of x that the file leaves open: the batch, and the length where there may be others
    than that of x.
    """
    if not isinstance(model, TokenModel):
        return {0: "batch"}
    try:
        model.check_batch(x[:, 1:] if x.shape[1] > 1 else x.repeat(1, 2))
    except ValueError:  # a model of sequences of one length
        return {0: "batch"}
    return {0: "batch", 1: "tokens"}


def _trials(size: Sequence[int], free: Mapping[int, str]) -> list[tuple[int, ...]]:
    """Shapes of the inputs that are compared: as given, and others along open axes."""
    first, *rest = size
    batches = {first, *BATCHES} if 0 in free else {first}
    shapes = [(batch, *rest) for batch in sorted(batches)]
    return [*shapes, (first, max(1, rest[0] - 1))] if 1 in free else shapes


class _Relaxed(nn.Module):
    """What an EquilibriumBlock does with its input, for a graph."""

    def __init__(self, block: EquilibriumBlock, unroll: bool) -> None:
        super().__init__()
        self.model, self.steps, self.unroll = block.model, block.settings.free_steps, unroll

    def forward(self, x: Tensor) -> Tensor:
        from eqprop_lab.deploy.loops import relaxed

        return self.model.readout(relaxed(self.model, x, self.steps, self.unroll))


def _traceable(model: nn.Module, unroll: bool) -> nn.Module:
    """A copy that looks at no values: weights as they are, relaxations marked, inputs trusted."""
    from eqprop_lab.deploy.loops import relaxed

    twin = copy.deepcopy(model).requires_grad_(False)
    for module in list(twin.modules()):
        _constant(module)
    for module in twin.modules():
        own = vars(module)
        if hasattr(module, "check_batch"):
            own["check_batch"] = lambda x: None
        if isinstance(module, EquilibriumModel):
            own["settled"] = partial(relaxed, module, steps=module.max_steps, unroll=unroll)
    if isinstance(twin, EquilibriumBlock):
        return _Relaxed(twin, unroll)
    for name, module in list(twin.named_modules(remove_duplicate=False)):
        if isinstance(module, EquilibriumBlock):
            parent, _, last = name.rpartition(".")
            setattr(twin.get_submodule(parent), last, _Relaxed(module, unroll))
    return twin


def _constant(module: nn.Module) -> None:
    """Parametrised weights as they are now. torch's own removal works on the class, which copies of
    a module share with it.
    """
    if parametrize.is_parametrized(module):
        names = list(module.parametrizations)  # type: ignore[arg-type]
        weights = {name: nn.Parameter(getattr(module, name), False) for name in names}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, weight in weights.items():
            setattr(module, name, weight)


def _written(model: nn.Module, x: Tensor, free: Mapping[int, str], unroll: bool) -> bytes:
    """The file of a model. Raises ExportError."""
    from eqprop_lab.deploy.loops import fold

    name = type(model).__name__
    try:
        with _silent(), readable_tf32():
            traced = torch.export.export(
                _traceable(model, unroll),
                (_traced(model, x, free),),
                dynamic_shapes=({axis: Dim.AUTO if axis else Dim.DYNAMIC for axis in free},),
            )
            program = torch.onnx.export(
                traced, input_names=["x"], output_names=["logits"], verbose=False
            )
        assert program is not None
        program.rename_axes(_names(program.model, free))
        fold(program.model)
        program.model.producer_name, program.model.producer_version = "eqprop_lab", __version__
        proto = program.model_proto
        importlib.import_module("onnx").checker.check_model(proto)
    except Exception as error:
        raise ExportError(f"{name} cannot be written as ONNX: {_why(error)}") from error
    blob: bytes = proto.SerializeToString()
    return blob


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing of what torch's exporter says besides its error: it uses what torch deprecates, and
    prints the graph that it gives up, which is nothing a caller can act on.
    """
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _names(model: Any, free: Mapping[int, str]) -> dict[Any, str]:
    """From what the exporter calls the open axes to what they are. Raises ValueError for one that
    the traced computation has closed.
    """
    given, made = model.graph.inputs[0].shape, model.graph.outputs[0].shape
    for axis, name in free.items():
        if given.is_static(axis) or made[axis] != given[axis]:
            raise ValueError(f"its computation holds for one size of the {name} only")
    return {given[axis].value: name for axis, name in free.items()}


def _traced(model: nn.Module, x: Tensor, free: Mapping[int, str]) -> Tensor:
    """x, with sizes along open axes that a graph does not take for constants: not 1, not those of
    other axes, not the longest sequence.
    """
    for axis in free:
        others = {1, *x.shape[:axis], *x.shape[axis + 1 :], getattr(model, "max_seq_len", None)}
        if x.shape[axis] in others:
            size = next(n for n in itertools.count(2) if n not in others)
            x = x.narrow(axis, 0, 1).repeat_interleave(size, axis)
    return x


def _compare(blob: bytes, model: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ExportError unless onnxruntime gives torch's logits on random inputs."""
    name = type(model).__name__
    loops = any(isinstance(module, EquilibriumModel) for module in model.modules())
    tol = RELAXATION if loops else FEED_FORWARD
    runtime: Any = importlib.import_module("onnxruntime")
    try:
        session = session_of(runtime, blob)
        for size in shapes:
            x = _random(model, size)
            wanted = model(x)
            found = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
            scale = max(1.0, float(wanted.abs().max()))
            off = float((found - wanted).abs().max()) / scale
            if not off <= tol:
                raise ExportError(
                    f"{name}: the logits of the file differ from torch's by {off:.1e} (allowed: "
                    f"{tol:.0e}) on inputs of shape {size}; is every relaxation long enough and "
                    "its norm bounded, and does the model say the same twice?"
                )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"{name}: onnxruntime cannot run its file: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """The innermost reason, in a line or two."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:400]
