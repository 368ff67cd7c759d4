"""Exported text computes what the hard network computes: read by a simulator that knows nothing of
the model, by the system's C compiler, and by Icarus Verilog where it is installed.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eqprop_lab import build_dataset
from eqprop_lab.lut import SimpleFeedForward, build_model
from eqprop_lab.lut.export import VerilogModule, to_c, to_testbench, to_verilog
from eqprop_lab.lut.export.verilog import count_width, input_words, ordered
from eqprop_lab.lut.netlist import Netlist, netlist_of, on_grid
from eqprop_lab.lut.simplify import simplify
from tests.lut.pieces import X, hard_counts, model, noise

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler on this machine")
needs_iverilog = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus Verilog (package iverilog) is not installed"
)
KINDS: list[dict[str, Any]] = [
    {},
    {"node_input_dim": 1, "layer_widths": [9]},
    {"node_input_dim": 8, "layer_widths": [10, 6]},
    {"layer_widths": [20, 14], "runtime": {"head_padding": True}},
    {"encoder_config": {"name": "gaussian_thermometer", "num_bits": 5, "clip_inputs": True}},
]


def simulated(text: str, netlist: Netlist, x: Tensor, levels: int | None = None) -> Any:
    """(counts, labels) of a Verilog text."""
    found = VerilogModule(text)(x=input_words(netlist, x, levels))
    width, classes = count_width(netlist), len(netlist.outputs)
    counts = [
        [word >> width * k & 2**width - 1 for k in range(classes)] for word in found["counts"]
    ]
    return np.array(counts), np.array(found["label"])


def differing(text: str, made: SimpleFeedForward, x: Tensor, levels: int | None = None) -> int:
    """Samples whose counts or label are not those of the hard torch network."""
    counts, labels = simulated(text, netlist_of(made), x, levels)
    wanted = hard_counts(made, x)
    wrong = (counts != wanted.numpy()).any(1) | (labels != wanted.argmax(1).numpy())
    return int(wrong.sum())


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_verilog_is_the_model(changes: dict[str, Any]) -> None:
    made = model(**changes)
    x = torch.cat([noise(150), X, -X, torch.zeros(1, 12), -torch.zeros(1, 12)])
    assert differing(to_verilog(netlist_of(made)), made, x) == 0
    parts = simplify(netlist_of(made)).netlist
    assert differing(to_verilog(parts), made, x) == 0


@pytest.fixture(scope="module")
def digits() -> tuple[Netlist, Tensor, Any]:
    """The shipped network, test images and 10,000 random ones, what the torch network counts."""
    made, data = build_model("digits_small"), build_dataset("digits")
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(17, (10_000, 64), generator=generator) / 16
    x = torch.cat([data.test.x.flatten(1), random])
    return netlist_of(made), x, hard_counts(made, x).numpy()


def test_verilog_of_the_shipped_digits(digits: tuple[Netlist, Tensor, Any]) -> None:
    parts, x, wanted = digits
    counts, labels = simulated(to_verilog(parts, levels=16), parts, x, levels=16)
    assert np.array_equal(counts, wanted) and np.array_equal(labels, wanted.argmax(1))


def test_a_fault_in_the_text_is_seen() -> None:
    made = model()
    text = to_verilog(netlist_of(made))
    last = text.rindex(".INIT(16'h") + len(".INIT(16'h")
    digit = text[last]
    broken = text[:last] + f"{15 - int(digit, 16):x}" + text[last + 1 :]
    assert differing(broken, made, noise(300)) > 0
    assert differing(text.replace("a1 = n1 > m0", "a1 = n0 > m0"), made, noise(300)) > 0


def test_inputs_on_a_grid_are_integers() -> None:
    made = model()
    x = torch.randint(5, (300, 12), generator=torch.Generator().manual_seed(2)) / 4
    text = to_verilog(netlist_of(made), levels=4)
    assert "input wire [35:0] x" in text and "32'h" not in text
    assert differing(text, made, x, levels=4) == 0
    with pytest.raises(ValueError, match="k / 4"):
        input_words(netlist_of(made), x + 0.1, 4)
    with pytest.raises(ValueError, match="k / 4"):
        input_words(netlist_of(made), x + 1, 4)


def test_words_of_float32_are_in_the_order_of_their_numbers() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=200).astype(np.float32))
    special = [-np.float32(3e38), -1.0, -1e-45, 0.0, 1e-45, 1.0, 3e38]
    for row in (values, special):
        keys = [ordered(float(value)) for value in row]
        assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert ordered(-0.0) == ordered(0.0)


def built(text: str, folder: Path, *options: str) -> Path:
    path = folder / "network.c"
    path.write_text(text)
    target = folder / f"{len(list(folder.iterdir()))}.out"  # a library is loaded once by name
    command = [str(CC), "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", *options]
    subprocess.run([*command, "-o", str(target), str(path)], check=True, capture_output=True)
    return target


def counted(path: Path, x: Tensor, classes: int) -> tuple[Any, Any, int]:
    """(counts, labels, result of the self-test) of a compiled network."""
    library = ctypes.CDLL(str(path))
    rows = np.ascontiguousarray(x.numpy(), np.float32)
    counts, labels = np.zeros((len(x), classes), np.int32), np.zeros(len(x), np.int32)
    for name, found in (("counts", counts), ("labels", labels)):
        call = getattr(library, f"lut_network_{name}")
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        call(rows.ctypes.data, len(rows), found.ctypes.data)
    return counts, labels, library.lut_network_self_test()


@needs_cc
@pytest.mark.parametrize("changes", [*KINDS, {"layer_widths": [12] * 3}], ids=str)
def test_c_is_the_model(changes: dict[str, Any], tmp_path: Path) -> None:
    made = model(**changes)
    x = torch.cat([noise(150), X, -X])
    path = built(to_c(netlist_of(made)), tmp_path, "-shared", "-fPIC")
    counts, labels, failed = counted(path, x, 3)
    wanted = hard_counts(made, x)
    assert np.array_equal(counts, wanted.numpy()) and failed == 0
    assert np.array_equal(labels, wanted.argmax(1).numpy())


@needs_cc
def test_c_of_the_shipped_digits(digits: tuple[Netlist, Tensor, Any], tmp_path: Path) -> None:
    parts, x, wanted = digits
    path = built(to_c(simplify(parts).netlist), tmp_path, "-O1", "-shared", "-fPIC")
    counts, labels, failed = counted(path, x, 10)
    assert np.array_equal(counts, wanted) and np.array_equal(labels, wanted.argmax(1))
    assert failed == 0


@needs_cc
def test_the_program_reads_rows_and_checks_itself_first(tmp_path: Path) -> None:
    made = model()
    text = to_c(netlist_of(made))
    program = str(built(text, tmp_path, "-DLUT_MAIN"))
    rows = " ".join(str(value) for value in X[:5].flatten().tolist())
    ran = subprocess.run([program], input=rows, text=True, capture_output=True, check=True)
    assert ran.stdout.split() == [str(k) for k in hard_counts(made, X[:5]).argmax(1).tolist()]
    for bad in ("1 2 3", rows + " x"):
        ran = subprocess.run([program], input=bad, text=True, capture_output=True, check=False)
        assert ran.returncode == 1 and "rows of 12 numbers" in ran.stderr
    at = text.index("entries[] = {\n    0x") + len("entries[] = {\n    0x")
    broken = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    program = str(built(broken, tmp_path, "-DLUT_MAIN"))
    ran = subprocess.run([program], input=rows, text=True, capture_output=True, check=False)
    assert ran.returncode == 2 and "self-test failed" in ran.stderr


@needs_cc
def test_a_network_of_constants_in_c(tmp_path: Path) -> None:
    nothing = Netlist(12, (), (), ((), ()), (1, 2))
    path = built(to_c(nothing), tmp_path, "-shared", "-fPIC")
    counts, labels, failed = counted(path, X[:3], 2)
    assert counts.tolist() == [[1, 2]] * 3 and labels.tolist() == [1] * 3 and failed == 0
    assert simulated(to_verilog(nothing), nothing, X[:3])[0].tolist() == [[1, 2]] * 3


@needs_iverilog
@pytest.mark.parametrize("levels", [None, 4])
def test_icarus_says_the_same(levels: int | None, tmp_path: Path) -> None:
    made = model()
    x = torch.randint(5, (40, 12), generator=torch.Generator().manual_seed(3)) / 4
    parts, wanted = netlist_of(made), hard_counts(made, x).numpy()
    small = simplify(parts if levels is None else on_grid(parts, levels)).netlist
    design = tmp_path / "design.v"
    design.write_text(to_verilog(small, levels=levels))
    for shift, said in ((0, "ok: 40 vectors"), (1, "40 of 40 vectors differ")):
        bench = tmp_path / "bench.v"
        bench.write_text(to_testbench(small, x, wanted + shift, levels=levels))
        command = ["iverilog", "-g2001", "-Wall", "-o", "run", str(design), str(bench)]
        made_by = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert made_by.stderr == ""
        ran = subprocess.run(
            ["vvp", "run"], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert said in ran.stdout


def test_what_cannot_be_written() -> None:
    parts = netlist_of(model())
    for name in ("", "1a", "A", "lut", "int", 3):
        with pytest.raises(ValueError, match="name"):
            to_c(parts, name)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="name"):
            to_verilog(parts, name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="levels"):
        to_verilog(parts, levels=0)
    with pytest.raises(ValueError, match="counts must have shape"):
        to_testbench(parts, X[:2], np.zeros((3, 3)))
