"""ONNX files with int8 weights, and a report of what that changes.

    w ~ s q,   q = round(w / s), an integer of 8 bits,   s = max |w| / 127

`int8` has the three ways there are. Which is right depends on the network, and on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqprop_lab.deploy.int8 import quantised
from eqprop_lab.deploy.onnx_file import CONVOLUTIONS, EXTRA, OnnxFile, QuantisationError, first_line
from eqprop_lab.files import check_target, replace_file
from eqprop_lab.lazy import optional
from eqprop_lab.tables import text_table
from eqprop_lab.validation import a_path, one_of, shown

METHODS = ("auto", "dynamic", "static", "weights")
ROUNDS = 15  # of timing, of both files in turn; the quickest counts
ENDING = ".int8.onnx"


@dataclass(frozen=True)
class Quantised:
    """What became of a file.

    path: the int8 file. method: of METHODS, and never "auto". bytes, microseconds (one thread, per
    input), accuracy: (before, after); accuracy None without labels. largest: of the differences of
    the logits; size: the largest logit before. agreement: share of inputs of the same class.
    """

    path: Path
    method: str
    bytes: tuple[int, int]
    microseconds: tuple[float, float]
    largest: float
    size: float
    agreement: float
    accuracy: tuple[float, float] | None = None

    @property
    def smaller(self) -> float:
        """How many times smaller the file is."""
        return self.bytes[0] / self.bytes[1]

    @property
    def faster(self) -> float:
        """How many times quicker it answers."""
        return self.microseconds[0] / self.microseconds[1]

    def table(self) -> str:
        """The report as text."""
        before, after = self.bytes
        rows = [
            ("", "float32", f"int8, {self.method}", ""),
            ("bytes", f"{before:,}", f"{after:,}", f"{self.smaller:.2f} times smaller"),
            ("us an input", *(f"{t:.1f}" for t in self.microseconds), f"{self.faster:.2f} x"),
            ("largest logit", f"{self.size:.3g}", "", f"off by {self.largest:.2g} at most"),
            ("same class", "", f"{self.agreement:.2%}", ""),
        ]
        if self.accuracy is not None:
            lost = 100 * (self.accuracy[0] - self.accuracy[1])
            figures = [f"{share:.2%}" for share in self.accuracy]
            rows.append(("accuracy", *figures, f"{lost:+.2f} points lost"))
        return "\n".join(text_table(rows))


def quantize(
    path: str | Path,
    calibration: Any = None,
    *,
    target: str | Path | None = None,
    method: str = "auto",
    test: tuple[Any, Any] | None = None,
) -> Quantised:
    """Write the int8 version of a file of `export_to_onnx`, and say what that changed.

    Args:
        path: the float32 file, which stays. calibration: inputs (N, ...) as the network sees them,
            at least a hundred; a file with convolutions asks for them, and one that reads tokens.
        target: the int8 file (default: beside it, NAME.int8.onnx).
        method: "auto" takes dynamic for matrices; static for convolutions, or weights where static
            is slower than float32 here, as it is without VNNI; weights where the convolutions are
            inside a relaxation, which onnxruntime has no integer steps for.
        test: (inputs, classes) for the accuracy; differences and times are taken on them, else on
            the calibration, else on normal numbers.
    Raises: TypeError, ValueError naming the argument; ImportError without the extra `onnx`;
        OSError; QuantisationError for a file that holds nothing to quantise or cannot be run.
    """
    source = a_path("path", path)
    method = one_of("method", method, METHODS)
    out = source.with_suffix(ENDING) if target is None else a_path("target", target)
    if out.resolve() == source.resolve():
        raise ValueError(f"target must be another file than path, got {shown(str(out))}")
    _, runtime = (optional(name, "quantize", EXTRA) for name in ("onnx", "onnxruntime"))
    check_target(out)
    before = _read(source)
    network = OnnxFile(runtime, before, source.name)
    kind = _method(network, method, calibration)
    inputs, classes = network.data(calibration, test)
    given = None if calibration is None else network.inputs("calibration", calibration)
    after = quantised(before, kind, given, network)
    report = _compared(network, after, inputs, classes)
    before_s, after_s = report["microseconds"]
    if method == "auto" and kind == "static" and before_s < after_s:
        kind, after = "weights", quantised(before, "weights", given, network)
        report = _compared(network, after, inputs, classes)
    replace_file(out, lambda file: file.write(after))
    return Quantised(out, kind, **report)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"path {shown(str(path))} is no file")
    return path.read_bytes()


def _method(network: OnnxFile, method: str, calibration: Any) -> str:
    """Which of the three. Raises ValueError for one that this network cannot be given."""
    inside = not {*CONVOLUTIONS}.isdisjoint(network.inside)
    outside = not {*CONVOLUTIONS}.isdisjoint(network.outside)
    kind = method
    if method == "auto":
        kind = "weights" if inside else "static" if outside else "dynamic"
    if kind == "dynamic" and (inside or outside):
        raise ValueError(
            f"method must be 'static' or 'weights' for {network.name}, which has convolutions: "
            "dynamic ones are several times slower than float32"
        )
    if kind == "static" and network.inside:
        raise ValueError(
            f"method must be 'dynamic' or 'weights' for {network.name}, got 'static': onnxruntime "
            "calibrates nothing inside a relaxation"
        )
    if kind == "static" and calibration is None:
        raise ValueError(
            f"calibration must be inputs (N, ...) for {network.name}, which has convolutions, got "
            "None: their ranges are taken from data, such as a hundred training images"
        )
    return kind


def _compared(
    network: OnnxFile, after: bytes, x: np.ndarray, y: np.ndarray | None
) -> dict[str, Any]:
    """The figures of a report. Raises QuantisationError for a file that cannot be run."""
    sessions = [network.session, None]
    try:
        sessions[1] = network.running(after)
        wanted, found = (network.logits(session, x) for session in sessions)
    except Exception as error:
        raise QuantisationError(
            f"{network.name}: onnxruntime cannot run its int8 file: {first_line(error)}"
        ) from error
    if not np.isfinite(found).all():
        raise QuantisationError(f"{network.name}: the logits of its int8 file are not finite")
    classes = [logits.argmax(-1) for logits in (wanted, found)]
    if y is not None:
        _check_classes(y, classes[0].shape, wanted.shape[-1])
    times = np.array(
        [[network.seconds(session, x) for session in sessions] for _ in range(ROUNDS)]
    ).min(0)
    return {
        "bytes": (network.bytes, len(after)),
        "microseconds": tuple(float(t) * 1e6 for t in times),
        "largest": float(np.abs(found - wanted).max()),
        "size": float(np.abs(wanted).max()),
        "agreement": float((classes[0] == classes[1]).mean()),
        "accuracy": None if y is None else tuple(float((c == y).mean()) for c in classes),
    }


def _check_classes(y: np.ndarray, shape: tuple[int, ...], count: int) -> None:
    """Not left to NumPy, which compares (N, 1) to (N,) as N x N. Raises ValueError."""
    if y.shape != shape:
        raise ValueError(f"test[1] must be classes of shape {shape}, got {y.shape}")
    if y.min() < 0 or y.max() >= count:
        raise ValueError(
            f"test[1] must be classes from 0 to {count - 1}, got {y.min()} to {y.max()}"
        )
