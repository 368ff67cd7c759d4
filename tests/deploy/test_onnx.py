"""What onnxruntime makes of an exported file is what torch makes of the model, for every model
there is: a new one adds a row to MODELS.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import eqprop_lab
from eqprop_lab import EquilibriumBlock, LoopedMLP, compile_model, export_to_onnx, model_registry
from eqprop_lab.algorithms import BioplausibleModel, list_algorithms
from eqprop_lab.algorithms.registry import algorithm, options
from eqprop_lab.deploy import loops
from eqprop_lab.deploy.onnx import FEED_FORWARD, RELAXATION, ExportError
from eqprop_lab.models.lut_network import LUTNetwork
from eqprop_lab.models.single_state import SingleStateConv

V, T = 11, 9


class Row(NamedTuple):
    """How to build a model small, the shape of one input, how many relaxations it has."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    loops: int = 1
    tokens: bool = False


def text(name: str, loops: int, *args: Any, **how: Any) -> Row:
    return Row(lambda: getattr(eqprop_lab, name)(V, *args, seed=0, **how), (T,), loops, True)


MODELS: dict[str, Row] = {
    "LoopedMLP": Row(lambda: LoopedMLP(12, 7, 3, seed=0), (12,)),
    "DeepEqProp": Row(lambda: eqprop_lab.DeepEqProp(12, [7, 6, 5], 3, seed=0), (12,)),
    "EquilibriumChain": Row(lambda: eqprop_lab.EquilibriumChain(12, 7, 3, 2, seed=0), (12,), 2),
    "ConvEqProp": Row(lambda: eqprop_lab.ConvEqProp(1, [3, 4], 5, image_size=8, seed=0), (1, 8, 8)),
    "SingleStateConv": Row(lambda: SingleStateConv(1, 3, 4, image_size=6, seed=0), (1, 6, 6)),
    "BackpropMLP": Row(lambda: eqprop_lab.BackpropMLP(12, 7, 3, seed=0), (12,), 0),
    "BackpropCNN": Row(
        lambda: eqprop_lab.BackpropCNN(1, [3, 4], 5, image_size=8, seed=0), (1, 8, 8), 0
    ),
    **{
        name: Row(
            lambda name=name: getattr(eqprop_lab, name)(12, [7, 7], 3, residual=True, seed=0),
            (12,),
            0,
        )
        for name in ("PredictiveMLP", "FeedforwardMLP")
    },
    **{
        name: Row(
            lambda name=name: getattr(eqprop_lab, name)(
                1, [3, 3], 5, "relu", True, image_size=8, seed=0
            ),
            (1, 8, 8),
            0,
        )
        for name in ("PredictiveConv", "FeedforwardConv")
    },
    "ResNetCifar": Row(lambda: eqprop_lab.ResNetCifar(8, 5, 1, 4, "B", seed=0), (1, 8, 8), 0),
    "DenseNet3": Row(
        lambda: eqprop_lab.DenseNet3(10, 5, 3, dropRate=0.1, in_channels=1, seed=0), (1, 8, 8), 0
    ),
    "SmallCNN": Row(lambda: eqprop_lab.SmallCNN(5, 1, (3, 4), seed=0), (1, 8, 8), 0),
    "AdaptiveFeedbackMLP": Row(
        lambda: eqprop_lab.AdaptiveFeedbackMLP(12, [7, 6], 3, seed=0), (12,), 0
    ),
    "EquilibriumAlignment": Row(lambda: eqprop_lab.EquilibriumAlignment(12, 7, 3, seed=0), (12,)),
    "BioplausibleModel": Row(lambda: BioplausibleModel("ada_fa", 12, [7], 3, seed=0), (12,), 0),
    "LUTNetwork": Row(lambda: LUTNetwork(12, 4, [20, 12], 4, seed=0), (12,), 0),
    "FullEqPropLM": text("FullEqPropLM", 1, 16, 2, 4, T, inner_dim=24),
    "TransformerEqProp": text("TransformerEqProp", 1, 16, 2, T, 4, inner_dim=24),
    "RecurrentEqPropLM": text("RecurrentEqPropLM", 1, 16, 4, T, inner_dim=24),
    "HybridEqPropLM": text("HybridEqPropLM", 1, 16, 2, 4, T, inner_dim=20),
    "LoopedMLPForLM": text("LoopedMLPForLM", 1, 20, 6, window=4),
    "EqPropAttentionOnlyLM": text("EqPropAttentionOnlyLM", 2, 16, 2, 4, T, inner_dim=24),
    "BackpropTransformerLM": text("BackpropTransformerLM", 0, 16, 2, 4, T, inner_dim=24),
    "BackpropWindowLM": text("BackpropWindowLM", 0, 20, 6, window=4),
}


def rule(name: str, bound: bool) -> Row:
    """A learning rule's network. Of four of them each step is written out, without a Loop."""
    steps = {"free_steps": 4} if "nudges" in options(algorithm(name)) else {}
    sizes = [7] if name == "eq_align" else [7, 6]
    how: dict[str, Any] = {"use_spectral_norm": bound, **steps}
    return Row(lambda: BioplausibleModel(name, 12, sizes, 3, 0, **how), (12,), name == "eq_align")


RULES = {name: rule(name, False) for name in list_algorithms()}
RULES |= {f"{name}, bounded": rule(name, True) for name in list_algorithms()}


def built(row: Row) -> nn.Module:
    """The model with no parameter left at zero."""
    model, generator = row.build(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def batch(row: Row, size: int, seed: int = 5) -> Tensor:
    """Inputs that the export has not seen."""
    generator = torch.Generator().manual_seed(seed)
    if row.tokens:
        return torch.randint(V, (size, *row.shape), generator=generator)
    return torch.randn(size, *row.shape, generator=generator)


def run(path: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def apart(path: Path, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        wanted = copy.deepcopy(model).eval()(x)
    found = run(path, x)
    assert found.shape == wanted.shape and float(wanted.std()) > 1e-3
    return float((found - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_every_model_of_the_package_has_a_row() -> None:
    ours = {
        name
        for name in model_registry.list_models()
        if isinstance(factory := model_registry.factory(name), type)
        and factory.__module__.startswith("eqprop_lab.")
    }
    assert ours == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_logits_of_its_model(name: str, tmp_path: Path) -> None:
    row = MODELS[name]
    model, path = built(row), tmp_path / "model.onnx"
    before = copy.deepcopy(model.state_dict())
    assert export_to_onnx(model, path, (1, *row.shape)) == path
    tol = RELAXATION if row.loops else FEED_FORWARD
    for size in (1, 3, 8):
        assert apart(path, model, batch(row, size)) <= tol
    if row.tokens:
        assert apart(path, model, batch(row, 3)[:, :4]) <= tol
    assert operators(path).count("Loop") == row.loops
    (given,) = onnx.load(path).graph.input
    names = [axis.dim_param for axis in given.type.tensor_type.shape.dim]
    assert names[: 1 + row.tokens] == ["batch", "tokens"][: 1 + row.tokens]
    assert model.training and all(p.requires_grad for p in model.parameters())
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", RULES)
def test_a_file_gives_the_logits_of_every_learning_rule(name: str, tmp_path: Path) -> None:
    row, path = RULES[name], tmp_path / "model.onnx"
    model = built(row)
    export_to_onnx(model, path, (1, *row.shape))
    tol = RELAXATION if row.loops else FEED_FORWARD
    assert max(apart(path, model, batch(row, size)) for size in (1, 8)) <= tol


@pytest.mark.parametrize("name", ["LoopedMLP", "ConvEqProp", "EqPropAttentionOnlyLM"])
def test_unrolled_there_is_no_loop(name: str, tmp_path: Path) -> None:
    row, path = MODELS[name], tmp_path / "model.onnx"
    model = built(row)
    for module in model.modules():
        if isinstance(module, EquilibriumBlock):
            module.use(free_steps=4)
        elif isinstance(module, eqprop_lab.EquilibriumModel):
            module.max_steps = 4
    export_to_onnx(model, path, (2, *row.shape), unroll=True)
    assert "Loop" not in operators(path)
    assert apart(path, model, batch(row, 3)) <= RELAXATION


def test_a_file_is_as_large_as_one_step(tmp_path: Path) -> None:
    sizes = {}
    for steps in (3, 40):
        path = export_to_onnx(
            LoopedMLP(12, 7, 3, max_steps=steps, seed=0), tmp_path / "x.onnx", (1, 12), check=False
        )
        sizes[steps] = path.stat().st_size
    assert abs(sizes[40] - sizes[3]) < 16


def test_a_closed_batch_is_the_one_of_the_shape(tmp_path: Path) -> None:
    row, path = MODELS["LoopedMLP"], tmp_path / "model.onnx"
    model = built(row)
    export_to_onnx(model, path, (2, 12), dynamic_batch=False)
    assert apart(path, model, batch(row, 2)) <= RELAXATION
    with pytest.raises(Exception, match="(?i)dimension"):
        run(path, batch(row, 3))


def test_a_block_inside_a_network_and_a_compiled_model_are_exported(tmp_path: Path) -> None:
    row, path = MODELS["LoopedMLP"], tmp_path / "model.onnx"
    net = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), EquilibriumBlock(built(row)), nn.Linear(3, 2))
    export_to_onnx(net, path, (1, 12))
    assert operators(path).count("Loop") == 1 and apart(path, net, batch(row, 4)) <= RELAXATION
    export_to_onnx(compile_model(built(row)), path, (1, 12))
    assert apart(path, built(row), batch(row, 4)) <= RELAXATION


def test_a_tf32_setting_of_ones_own_is_no_hindrance(tmp_path: Path) -> None:
    cudnn: Any = torch.backends.cudnn
    row, path, before = MODELS["BackpropMLP"], tmp_path / "model.onnx", cudnn.allow_tf32
    try:
        cudnn.conv.fp32_precision = "ieee"  # torch's exporter raises for it
        export_to_onnx(built(row), path, (1, *row.shape))
        assert cudnn.conv.fp32_precision == "ieee"
    finally:
        cudnn.allow_tf32 = before


class Undecided(nn.Module):
    """Its graph would depend on a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


class Restless(nn.Module):
    """Says something else each time."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


def hooked() -> nn.Module:
    model = LoopedMLP(12, 7, 3, seed=0)
    model.W_in.register_forward_hook(lambda *_: None)
    return model


def spoiled() -> nn.Module:
    model = LoopedMLP(12, 7, 3, seed=0)
    with torch.no_grad():
        model.W_in.weight[0, 0] = np.nan
    return model


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "class": (lambda: "LoopedMLP", TypeError, "model must be a torch.nn.Module, got str"),
    "float64": (
        lambda: LoopedMLP(12, 7, 3, seed=0).double(),
        TypeError,
        r"float32 throughout, LoopedMLP\.W_in\.weight is torch\.float64",
    ),
    "bfloat16": (lambda: eqprop_lab.BackpropMLP(12, 7, 3).bfloat16(), TypeError, "bfloat16"),
    "device": (lambda: nn.Linear(12, 3, device="meta"), ValueError, "on the CPU, Linear.weight"),
    "hooks": (hooked, ValueError, r"no forward hooks.*'W_in' has some \(LoopedMLP\)"),
    "nan": (spoiled, ValueError, r"LoopedMLP\) cannot be exported.*W_in\.weight is not finite"),
    "values": (Undecided, ExportError, "Undecided cannot be written as ONNX: "),
    "restless": (Restless, ExportError, r"Restless: the logits of the file differ .* by \d"),
}


@pytest.mark.parametrize(("build", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_refused_and_the_old_file_stays(
    build: Callable[[], Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(kind, match=message):
        export_to_onnx(build(), path, (1, 12))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("LoopedMLP", (12,)),
        ("LoopedMLP", (1, 5)),
        ("ConvEqProp", (1, 3, 8, 8)),
        ("BackpropMLP", (1, 13)),
        ("FullEqPropLM", (1, T + 1)),
        ("LoopedMLPForLM", (4,)),
    ],
)
def test_a_wrong_shape_is_refused(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"input_shape must be that of a batch {name} takes"):
        export_to_onnx(MODELS[name].build(), tmp_path / "x.onnx", shape)
    assert not list(tmp_path.iterdir())


def test_what_the_tracer_gives_up_is_said_by_the_error_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match="data-dependent"):
        export_to_onnx(Undecided(), tmp_path / "x.onnx", (1, 12))
    assert capfd.readouterr() == ("", "")


def test_a_path_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        pytest.fail("work was done")

    monkeypatch.setattr(torch.export, "export", work)
    (tmp_path / "file").write_bytes(b"")
    for path, kind in ((tmp_path / "file" / "x", NotADirectoryError), (tmp_path, OSError)):
        with pytest.raises(kind, match=path.name):
            export_to_onnx(LoopedMLP(12, 7, 3, seed=0), path, (1, 12))


def test_a_relaxation_of_another_length_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = loops.relaxed
    shorter = lambda model, x, steps, unroll: right(model, x, 1, unroll)  # noqa: E731
    monkeypatch.setattr(loops, "relaxed", shorter)
    with pytest.raises(ExportError, match="LoopedMLP: the logits of the file differ"):
        export_to_onnx(built(MODELS["LoopedMLP"]), tmp_path / "x.onnx", (1, 12))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_its_packages_it_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [eqprop_lab.HAS_ONNX]
    monkeypatch.setitem(sys.modules, package, None)
    assert [*here, eqprop_lab.HAS_ONNX] == [True, False]
    with pytest.raises(ImportError, match=rf"{package}: pip install 'eqprop_lab\[onnx\]'"):
        export_to_onnx(LoopedMLP(12, 7, 3, seed=0), tmp_path / "x.onnx", (1, 12))
    if package == "onnxruntime":
        export_to_onnx(LoopedMLP(12, 7, 3, seed=0), tmp_path / "x.onnx", (1, 12), check=False)
