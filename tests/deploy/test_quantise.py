"""int8 files: which way is taken, what is left of the logits, what is refused."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from eqprop_lab import (
    BackpropMLP,
    ConvEqProp,
    LoopedMLP,
    SmallCNN,
    build_dataset,
    export_to_onnx,
    quantize,
)
from eqprop_lab.deploy.int8 import rounded
from eqprop_lab.deploy.onnx_file import OnnxFile, QuantisationError
from tests.deploy.test_onnx import MODELS, batch, built


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """float32 files: matrices, a relaxation of them, convolutions, a relaxation of those, text."""
    folder = tmp_path_factory.mktemp("files")
    nets = {
        "mlp": (BackpropMLP(64, 48, 10, seed=0), (1, 64)),
        "looped": (LoopedMLP(64, 48, 10, seed=0), (1, 64)),
        "cnn": (SmallCNN(10, 1, (8, 16), seed=0), (1, 1, 8, 8)),
        "conv": (ConvEqProp(1, [8, 16], 10, image_size=8, seed=0), (1, 1, 8, 8)),
        "text": (built(MODELS["HybridEqPropLM"]), (1, 9)),
    }
    return {
        name: export_to_onnx(net.eval(), folder / f"{name}.onnx", shape, check=False)
        for name, (net, shape) in nets.items()
    }


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return build_dataset("digits").train.x[:100]


def nodes(path: Path) -> list[str]:
    """Operations of a file, those in its loops too."""
    graph = onnx.load(path).graph
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [node.op_type for part in (graph, *bodies) for node in part.node]


def logits(path: Path, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("name, smaller", [("mlp", 2.2), ("looped", 2.2)])
def test_matrices_become_integers_inside_a_relaxation_too(
    name: str, smaller: float, files: dict[str, Path], digits: torch.Tensor, tmp_path: Path
) -> None:
    report = quantize(files[name], digits, target=tmp_path / "a.onnx")
    x = digits.flatten(1)
    off = np.abs(logits(files[name], x) - logits(report.path, x)).max()
    assert report.method == "dynamic" and report.smaller > smaller
    assert report.bytes == (files[name].stat().st_size, report.path.stat().st_size)
    assert report.largest == pytest.approx(off, rel=0.5) and 0 < off < 0.05 * report.size
    assert nodes(report.path).count("MatMulInteger") == 3
    assert "MatMul" not in nodes(report.path) and "Gemm" not in nodes(report.path)


def test_products_stay_below_what_a_processor_without_vnni_can_add_up(
    files: dict[str, Path], tmp_path: Path
) -> None:
    report = quantize(files["mlp"], target=tmp_path / "a.onnx")
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(report.path).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert len(weights) == 3
    assert all(32 < np.abs(w.astype(int)).max() <= 64 for w in weights)


def test_a_symmetric_matrix_stays_symmetric(files: dict[str, Path], tmp_path: Path) -> None:
    report = quantize(files["looped"], target=tmp_path / "a.onnx")
    held = {t.name: t for t in onnx.load(report.path).graph.initializer}
    recurrent = onnx.numpy_helper.to_array(held["W_rec.weight_quantized"])
    assert recurrent.dtype == np.int8 and (recurrent == recurrent.T).all()


def test_weights_alone_are_rounded_where_convolutions_relax(
    files: dict[str, Path], digits: torch.Tensor, tmp_path: Path
) -> None:
    report = quantize(
        files["conv"], target=tmp_path / "a.onnx", test=(digits, torch.arange(100) % 10)
    )
    assert report.method == "weights" and report.smaller > 1.5
    assert 0 < report.largest < 0.05 * report.size
    held = {t.name: t for t in onnx.load(report.path).graph.initializer}
    before = {t.name: t for t in onnx.load(files["conv"]).graph.initializer}
    name = "layers.1.weight"
    whole = onnx.numpy_helper.to_array(held[f"{name}_int8"]).astype(np.float32)
    found = whole * onnx.numpy_helper.to_array(held[f"{name}_scale"])
    wanted = onnx.numpy_helper.to_array(before[name])
    steps = np.abs(wanted).reshape(len(wanted), -1).max(1) / 127
    assert (np.abs(found - wanted).reshape(len(wanted), -1).max(1) <= 0.51 * steps).all()


def test_convolutions_take_their_ranges_from_data(
    files: dict[str, Path], digits: torch.Tensor, tmp_path: Path
) -> None:
    report = quantize(files["cnn"], digits, target=tmp_path / "a.onnx", method="static")
    assert report.method == "static" and nodes(report.path).count("QuantizeLinear") >= 3
    assert 0 < report.largest < 0.25 * report.size


@pytest.mark.parametrize("quicker, method", [(True, "static"), (False, "weights")])
def test_of_two_ways_for_convolutions_a_slower_one_is_left(
    quicker: bool,
    method: str,
    files: dict[str, Path],
    digits: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seconds(network: OnnxFile, session: Any, x: np.ndarray) -> float:
        return 1.0 if (session is network.session) != quicker else 2.0

    monkeypatch.setattr(OnnxFile, "seconds", seconds)
    report = quantize(files["cnn"], digits, target=tmp_path / "a.onnx")
    # whichever is written, what is said is of that file
    assert report.method == method and report.bytes[1] == report.path.stat().st_size
    assert ("QuantizeLinear" in nodes(report.path)) is quicker


def test_tokens_are_compared_on_tokens(files: dict[str, Path], tmp_path: Path) -> None:
    x = batch(MODELS["HybridEqPropLM"], 20)
    report = quantize(files["text"], x, target=tmp_path / "a.onnx")
    assert report.method == "dynamic" and report.agreement > 0.8
    assert 0 < report.largest < 0.2 * report.size


def test_accuracy_is_of_the_labels_given(
    files: dict[str, Path], digits: torch.Tensor, tmp_path: Path
) -> None:
    classes = logits(files["mlp"], digits.flatten(1)).argmax(1)
    classes[:25] = (classes[:25] + 1) % 10
    report = quantize(files["mlp"], target=tmp_path / "a.onnx", test=(digits, classes))
    assert report.accuracy is not None and report.accuracy[0] == 0.75
    assert "points lost" in report.table() and f"{report.smaller:.2f} times" in report.table()
    assert quantize(files["mlp"], target=tmp_path / "a.onnx").accuracy is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y[:, None], r"test\[1\] must be classes of shape \(100,\), got \(100, 1\)"),
        (lambda y: y - 1, r"test\[1\] must be classes from 0 to 9, got -1 to 8"),
        (lambda y: y + 1, r"test\[1\] must be classes from 0 to 9, got 1 to 10"),
    ],
    ids=["column", "below", "above"],
)
def test_labels_that_are_none_are_refused(
    change: Any, said: str, files: dict[str, Path], digits: torch.Tensor, tmp_path: Path
) -> None:
    y = change(torch.arange(100) % 10)
    with pytest.raises(ValueError, match=said):
        quantize(files["mlp"], target=tmp_path / "a.onnx", test=(digits, y))
    assert not list(tmp_path.iterdir())


def test_a_file_of_one_batch_size_is_calibrated(digits: torch.Tensor, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    path = export_to_onnx(net, tmp_path / "a.onnx", (4, 1, 8, 8), dynamic_batch=False)
    assert quantize(path, digits[:10], method="static").agreement > 0.5


def test_the_file_lies_beside_the_first_one_by_default(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(files["mlp"], tmp_path / "net.onnx"))
    assert quantize(path).path == tmp_path / "net.int8.onnx"


def test_a_file_of_one_batch_size_is_compared_at_it(files: dict[str, Path], tmp_path: Path) -> None:
    path, net = tmp_path / "net.onnx", onnx.load(files["mlp"])
    for value in (*net.graph.input, *net.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 6
    onnx.save(net, path)
    assert quantize(path, torch.randn(20, 64)).agreement > 0.5
    with pytest.raises(ValueError, match="calibration must have shape .'at least 6', 64"):
        quantize(path, torch.randn(5, 64))


def test_rounding_a_weight() -> None:
    conv = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    conv[1] *= 100
    conv[2] = 0
    q, s = rounded(conv)
    assert s.shape == (3, 1, 1, 1) and q.dtype == np.int8
    assert np.abs(q[:2]).reshape(2, -1).max(1).tolist() == [127, 127] and not q[2].any()
    assert np.abs(q * s - conv).max() <= 0.5001 * s.max()
    assert rounded(conv[0, 0])[1].shape == (1, 1)


def test_logging_is_as_it_was(files: dict[str, Path], tmp_path: Path) -> None:
    before = list(logging.root.handlers), logging.root.manager.disable
    quantize(files["mlp"], target=tmp_path / "a.onnx")
    assert (list(logging.root.handlers), logging.root.manager.disable) == before


BAD: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "no data": ("cnn", {}, ValueError, "calibration must be inputs"),
    "no tokens": ("text", {}, ValueError, "calibration must be tokens"),
    "dynamic": ("cnn", {"method": "dynamic"}, ValueError, "method must be 'static' or 'weights'"),
    "static": ("conv", {"method": "static"}, ValueError, "method must be 'dynamic' or 'weights'"),
    "method": ("mlp", {"method": "dynamc"}, ValueError, "did you mean 'dynamic'"),
    "kind": ("mlp", {"calibration": "digits"}, TypeError, "calibration must be a tensor"),
    "shape": ("mlp", {"calibration": torch.rand(9, 7)}, ValueError, "calibration must have shape"),
    "NaN": ("mlp", {"calibration": torch.full((9, 64), torch.nan)}, ValueError, "must be finite"),
    "floats": ("text", {"calibration": torch.rand(9, 9)}, TypeError, "integers .tokens."),
    "integers": ("mlp", {"calibration": torch.ones(9, 64).long()}, TypeError, "floating point"),
    "test": ("mlp", {"test": torch.rand(9, 64)}, TypeError, "test must be .inputs, classes."),
    "classes": ("mlp", {"test": (torch.rand(9, 64), [1])}, ValueError, "one class for each of 9"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_named(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    file, how, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        quantize(files[file], target=tmp_path / "a.onnx", **how)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_quantised(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no file"):
        quantize(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="target must be another file"):
        quantize(files["mlp"], target=files["mlp"])
    with pytest.raises(NotADirectoryError):
        quantize(files["mlp"], target=files["cnn"] / "a.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(QuantisationError, match="bad.onnx is no network"):
        quantize(tmp_path / "bad.onnx")
    done = quantize(files["mlp"], target=tmp_path / "a.onnx").path
    with pytest.raises(QuantisationError, match="a.onnx is quantised already"):
        quantize(done)
    net = onnx.load(files["mlp"])
    for tensor in net.graph.initializer:
        tensor.data_type = onnx.TensorProto.DOUBLE  # none of them is what can be rounded
        tensor.raw_data = 2 * tensor.raw_data
    for value in (*net.graph.input, *net.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del net.graph.value_info[:]
    onnx.save(net, tmp_path / "double.onnx")
    with pytest.raises(QuantisationError, match="would save nothing"):
        quantize(tmp_path / "double.onnx")


def test_without_the_extra_the_error_says_what_to_install(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'eqprop_lab\[onnx\]'"):
        quantize(files["mlp"])
