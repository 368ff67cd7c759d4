from __future__ import annotations

import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from eqprop_lab.commands import doctor
from eqprop_lab.commands.doctor import Row
from eqprop_lab.datasets.published import PUBLISHED


def fake_cupy(runtime: int = 12090, ones: Any = torch.ones) -> ModuleType:
    module = ModuleType("cupy")
    cuda = SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=lambda: runtime))
    vars(module).update(__version__="14.0", cuda=cuda, ones=ones)
    return module


def test_this_environment_is_sound_and_the_table_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    problems = [row for row in doctor.environment_report() if row.status == "problem"]
    assert problems == []
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("everything needed is here\n")
    assert "threads" in printed


def test_a_problem_gives_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        doctor, "python_row", lambda version: Row("python", "3.9", "problem", "install")
    )
    assert doctor.main([]) == 1
    assert "1 problem" in capsys.readouterr().out


def test_lines_for_a_notebook_are_the_same_on_every_sound_machine() -> None:
    rows = [
        Row("python", "3.11"),
        Row("threads", "2", local=True),
        Row("CUDA majors", "13 and 12", "problem", "choose", local=True),
    ]
    assert doctor.doctor_lines(rows[:2]) == ["ok       python  3.11", "everything needed is here"]
    assert any("threads" in line for line in doctor.doctor_lines(rows, machine=True))
    assert "CUDA majors" in doctor.doctor_lines(rows)[1]
    text = "\n".join(doctor.doctor_lines())
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    assert "+cpu" not in text


def test_an_old_python_is_a_problem() -> None:
    assert doctor.python_row((3, 10)).status == "problem"
    assert doctor.python_row((3, 11)).status == "ok"


def test_packages_are_compared_with_what_is_needed() -> None:
    rows = list(
        doctor.package_rows(
            [
                "numpy>=1.0",
                "torch>=99",
                "absent-package",
                'absent-lab; extra == "lab"',
                'absent-test; extra == "test"',
                'absent-gpu; extra == "gpu"',
                'eqprop_lab[onnx]; extra == "test"',
                'absent-onnx; extra == "onnx"',
                'numpy; sys_platform == "amiga"',
            ]
        )
    )
    found = [(row.name, row.status) for row in rows]
    assert found == [
        ("numpy", "ok"),
        ("torch", "problem"),
        ("absent-package", "problem"),
        ("absent-lab", "problem"),
        ("absent-test", "note"),
        ("absent-onnx", "note"),
    ]


def test_what_an_extra_brings_is_needed_as_it_is() -> None:
    lines = ['absent-onnx; extra == "onnx"', 'eqprop_lab[onnx]; extra == "lab"', "absent-core"]
    assert [(row.name, row.status) for row in doctor.package_rows(lines)] == [
        ("absent-onnx", "problem"),
        ("absent-core", "problem"),
    ]


def test_the_processor_is_told_as_torch_and_numpy_use_it() -> None:
    row = doctor.processor_row()
    assert f"torch {torch.backends.cpu.get_cpu_capability()}, NumPy " in row.found and row.local
    assert row in doctor.environment_report()


@pytest.mark.parametrize(
    ("torch_version", "vision", "status"),
    [
        ("2.13.0+cpu", "0.28.0+cu130", "ok"),
        ("2.13.0", "0.27.1", "problem"),
        ("2.12.0", "0.28.0", "problem"),
    ],
)
def test_torch_and_torchvision_belong_together(
    torch_version: str, vision: str, status: str
) -> None:
    row = doctor.vision_row(torch_version, vision, True)
    assert row.status == status
    assert "shim in use" in row.found


def test_cuda_row_with_and_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.cuda_row().status == "note"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "A GPU")
    assert "A GPU" in doctor.cuda_row().found


def test_cupy_is_probed_on_a_device_and_mixed_majors_are_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cupy_is(module: ModuleType | None) -> None:
        monkeypatch.setitem(sys.modules, "cupy", module)

    def broken(size: int) -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(metadata, "distributions", lambda: [])
    cupy_is(None)
    assert [row.status for row in doctor.cupy_rows(None)] == ["note"]
    cupy_is(fake_cupy())
    assert [row.status for row in doctor.cupy_rows("12.9")] == ["ok"]
    cupy_is(fake_cupy(ones=broken))
    no_device = next(doctor.cupy_rows(None))
    assert no_device.status == "note"
    assert no_device.found == "CuPy 14.0 has no usable device: no driver"
    cupy_is(fake_cupy(13000))
    mixed = list(doctor.cupy_rows("12.9"))[-1]
    assert (mixed.name, mixed.status) == ("CUDA majors", "problem")
    both = [SimpleNamespace(name=name) for name in ("cupy-cuda12x", "cupy-cuda13x")]
    monkeypatch.setattr(metadata, "distributions", lambda: both)
    cupy_is(None)
    assert [row.status for row in doctor.cupy_rows(None)] == ["problem", "problem"]


def test_data_sets_present_and_absent(tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(b"")
    rows = {row.name: row.found for row in doctor.data_rows(tmp_path)}
    assert rows["data sets"].endswith("svhn")
    assert "svhn" not in rows["data sets absent"]
    assert "mnist" in rows["data sets absent"]
    assert rows["texts"] == "python_docs"
    assert rows["texts absent"] == "tiny_shakespeare, wikitext-2, ptb"
    for file in PUBLISHED["wikitext-2"]["character"].files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    rows = {row.name: row.found for row in doctor.data_rows(tmp_path)}
    assert rows["texts"] == "python_docs, wikitext-2"


def test_a_foreign_kernel_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.kernel_row().status == "ok"
    from jupyter_client import kernelspec

    foreign = SimpleNamespace(argv=["/elsewhere/python3"])
    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", lambda self, name: foreign)
    assert doctor.kernel_row().status == "problem"

    def missing(self: Any, name: str) -> None:
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", missing)
    assert "not installed" in doctor.kernel_row().found
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    assert "extra 'lab'" in doctor.kernel_row().advice


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.status for row in doctor.folder_rows([tmp_path / "new" / "runs"])] == ["ok"]

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert [row.found for row in doctor.folder_rows([tmp_path])] == [
        "not writable: Permission denied"
    ]


def test_browser_found_or_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PLAYWRIGHT_BROWSERS_PATH", raising=False)
    monkeypatch.setenv("PATH", "")
    assert doctor.browser_row().status == "note"
    (tmp_path / "browsers" / "chromium-1").mkdir(parents=True)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "browsers"))
    assert doctor.browser_row().status == "ok"


def test_a_source_tree_without_installation_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    rows = {row.name: row for row in doctor.environment_report()}
    assert rows["eqprop_lab"].status == "problem"


def test_a_torch_that_joins_no_processes_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Gloo" in doctor.processes_row().found
    monkeypatch.setattr(doctor.distributed, "is_available", lambda: False)
    row = doctor.processes_row()
    assert row.status == "note" and "one process" in row.advice
