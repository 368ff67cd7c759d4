"""Three ways to make a network int8, each right for others.

    w ~ s q,   q = round(w / s) in -127..127 (-64..64 where products are integers),   s = max|w| / Q

    dynamic   for matrices. Weights are int8, the other factor of a product is rounded as it comes,
              inside a relaxation too; products are integers.
    static    for convolutions. The ranges of all factors are taken from calibration data.
    weights   int8 in the file, float32 once it is loaded: as quick as before, whatever the network.

Integer products keep to seven bits of a weight: without VNNI a processor adds products of eight by
eight bits up in sixteen, which overflow and say nothing. One scale a matrix keeps a symmetric one
symmetric. What is rounded as it comes is scaled by the largest value of its batch: in a dynamic
file, an answer depends a little on its neighbours.
Source: B. Jacob et al. 2018, arXiv:1712.05877 (integer arithmetic, scales).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eqprop_lab.deploy.onnx_file import (
    MATRICES,
    OnnxFile,
    QuantisationError,
    first_line,
    large,
)

LEVELS = 127


def quantised(blob: bytes, kind: str, calibration: np.ndarray | None, network: OnnxFile) -> bytes:
    """The int8 file. Raises QuantisationError."""
    try:
        if kind == "weights":
            return _stored(blob)
        with _silent(), tempfile.TemporaryDirectory() as folder:
            return _by_runtime(blob, kind, calibration, network, Path(folder))
    except Exception as error:
        raise QuantisationError(
            f"{network.name} cannot be quantised ({kind}): {first_line(error)}"
        ) from error


def _by_runtime(
    blob: bytes, kind: str, calibration: np.ndarray | None, network: OnnxFile, folder: Path
) -> bytes:
    name, fixed = network.input, network.fixed
    tools = importlib.import_module("onnxruntime.quantization")
    model = importlib.import_module("onnx").load_model_from_string(blob)
    out = folder / "int8.onnx"
    how = {"weight_type": tools.QuantType.QInt8, "reduce_range": True}
    if kind == "dynamic":
        tools.quantize_dynamic(model, out, extra_options={"EnableSubgraph": True}, **how)
    else:
        assert calibration is not None
        size = fixed or len(calibration)
        parts = (calibration[at : at + size] for at in range(0, len(calibration), size))
        batches = ({name: part} for part in parts)

        class Reader(tools.CalibrationDataReader):  # type: ignore[name-defined]
            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(batches, None)

        operations = ["Conv", *MATRICES]
        tools.quantize_static(model, out, Reader(), op_types_to_quantize=operations, **how)
    return out.read_bytes()


def _stored(blob: bytes) -> bytes:
    """Weights as int8 with their scales, made float32 by operations on constants, which
    onnxruntime works out as it loads the file. (A DequantizeLinear it would leave where it is, and
    lay out no convolution for the processor.)
    """
    onnx = importlib.import_module("onnx")
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    model = onnx.load_model_from_string(blob)
    graph, made = model.graph, []
    for tensor in list(large(graph)):
        name = tensor.name
        integers, scales = rounded(onnx.numpy_helper.to_array(tensor))
        graph.initializer.remove(tensor)
        graph.initializer.append(from_array(integers, f"{name}_int8"))
        graph.initializer.append(from_array(scales, f"{name}_scale"))
        made.append(
            helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=onnx.TensorProto.FLOAT)
        )
        made.append(helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]))
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    result: bytes = model.SerializeToString()
    return result


def rounded(weight: np.ndarray, levels: int = LEVELS) -> tuple[np.ndarray, np.ndarray]:
    """(q, s): q = round(w / s) as int8, w ~ s q, s = max |w| / levels: one for a matrix, one for
    each output of a convolution (the first axis).
    """
    outputs = 1 if weight.ndim < 3 else len(weight)
    largest = np.abs(weight).reshape(outputs, -1).max(1)
    scales = np.maximum(largest, np.finfo(np.float32).tiny) / levels
    scales = scales.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float32)
    return np.clip(np.rint(weight / scales), -levels, levels).astype(np.int8), scales


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the advice that onnxruntime prints, and without the handler that it leaves."""
    handlers, off = list(logging.root.handlers), logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(off)
        logging.root.handlers[:] = handlers
