"""An ONNX file of a network, run by onnxruntime: what it asks of its input, what it costs."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from eqprop_lab.validation import shown

EXTRA = "'eqprop_lab[onnx]'"  # what its packages are installed by
CONVOLUTIONS, MATRICES = ("Conv", "ConvTranspose"), ("Gemm", "MatMul")
QUANTISED = ("DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv")
SMALLEST = 256  # values of a weight that is worth a scale of its own
COMPARED = 256  # inputs, where none are given
BATCH = 64  # of a file that takes any


class QuantisationError(RuntimeError):
    """A file that cannot be quantised; the message names it and the reason."""


class OnnxFile:
    """A file and what it asks of its input."""

    def __init__(self, runtime: Any, blob: bytes, name: str) -> None:
        self.runtime, self.name, self.bytes = runtime, name, len(blob)
        onnx = importlib.import_module("onnx")
        try:
            self.graph = onnx.load_model_from_string(blob).graph
            self.session = self.running(blob)
            (given,) = self.session.get_inputs()
            (_,) = self.session.get_outputs()
        except Exception as error:
            raise QuantisationError(
                f"{name} is no network with one input and one output: {first_line(error)}"
            ) from error
        self.input, self.shape = given.name, list(given.shape)
        # samples of a batch, None for a file that takes any
        self.fixed = self.shape[0] if isinstance(self.shape[0], int) else None
        self.tokens = given.type == "tensor(int64)"
        self.outside = [node.op_type for node in self.graph.node]
        self.inside = [node.op_type for body in bodies(self.graph) for node in body.node]
        operations = {*self.outside, *self.inside}
        if not operations.isdisjoint(QUANTISED):
            raise QuantisationError(f"{name} is quantised already")
        if operations.isdisjoint({*CONVOLUTIONS, *MATRICES}) or not any(large(self.graph)):
            raise QuantisationError(
                f"{name} holds no matrix or convolution of {SMALLEST} values or more: int8 would "
                "save nothing"
            )

    def running(self, blob: bytes) -> Any:
        """A session of one thread."""
        return session_of(self.runtime, blob, threads=1)

    def inputs(self, name: str, value: Any) -> np.ndarray:
        """`value` as a batch of this network. Raises TypeError, ValueError naming it."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a tensor or an array, got {shown(value)}")
        kinds = "iu" if self.tokens else "f"
        if array.dtype.kind not in kinds:
            wanted = "integers (tokens)" if self.tokens else "floating point numbers"
            raise TypeError(f"{name} must hold {wanted}, got {array.dtype}")
        with np.errstate(over="ignore"):
            array = array.astype(np.int64 if self.tokens else np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, it holds NaN or infinite values")
        sizes = [size if isinstance(size, int) else None for size in self.shape]
        if array.ndim > 1 and len(sizes) == 2 and not self.tokens:
            array = array.reshape(
                len(array), math.prod(array.shape[1:])
            )  # vectors, given as images
        fits = array.ndim == len(sizes) and all(
            size in (None, found) for size, found in zip(sizes[1:], array.shape[1:], strict=True)
        )
        least = sizes[0] or 1
        if not fits or len(array) < least:
            accepted = tuple(f"at least {least}" if i == 0 else s for i, s in enumerate(self.shape))
            raise ValueError(f"{name} must have shape {accepted}, got {array.shape}")
        return array[: len(array) // least * least]

    def data(self, calibration: Any, test: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """(inputs to compare on, their classes)."""
        if test is not None:
            if not isinstance(test, tuple | list) or len(test) != 2:
                raise TypeError(f"test must be (inputs, classes), got {shown(test)}")
            x = self.inputs("test[0]", test[0])
            y = test[1].cpu().numpy() if isinstance(test[1], Tensor) else np.asarray(test[1])
            if y.shape[:1] != (len(test[0]),) or y.dtype.kind not in "iu":
                raise ValueError(
                    f"test[1] must be one class for each of {len(test[0])} inputs, got {shown(y)}"
                )
            return x, y[: len(x)]
        if calibration is not None:
            return self.inputs("calibration", calibration), None
        if self.tokens:
            raise ValueError(
                f"calibration must be tokens (N, T) for {self.name}, got None: which symbols there "
                "are is not said in a file"
            )
        sizes = [size if isinstance(size, int) else COMPARED for size in self.shape]
        noise = np.random.default_rng(0).standard_normal(sizes, np.float32)
        return noise, None

    def logits(self, session: Any, x: np.ndarray) -> np.ndarray:
        """Of all inputs, in batches that the file takes."""
        size = self.fixed or BATCH
        parts = (x[at : at + size] for at in range(0, len(x), size))
        found = np.concatenate([session.run(None, {self.input: part})[0] for part in parts])
        return np.asarray(found)

    def seconds(self, session: Any, x: np.ndarray) -> float:
        """CPU time of one batch, for each of its inputs."""
        batch = x[: self.fixed or BATCH]
        start = time.process_time()
        session.run(None, {self.input: batch})
        return (time.process_time() - start) / len(batch)


def session_of(runtime: Any, blob: bytes, threads: int = 0) -> Any:
    """A session of onnxruntime on the CPU; threads: 0, as many as it takes."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4  # what it would print is in the error that it raises
    return runtime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])


def bodies(graph: Any) -> Iterator[Any]:
    """The graphs inside the nodes of a graph: those of loops."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
                yield from bodies(attribute.g)


def large(graph: Any) -> Iterator[Any]:
    """The weights of a graph that are worth a scale."""
    float32 = importlib.import_module("onnx").TensorProto.FLOAT
    for tensor in graph.initializer:
        if (
            tensor.data_type == float32
            and len(tensor.dims) > 1
            and np.prod(tensor.dims) >= SMALLEST
        ):
            yield tensor


def first_line(error: BaseException) -> str:
    """Its kind and the beginning of what it says."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]
