"""The import shim for torchvision, both ways: with its compiled library and without."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from eqprop_lab.datasets import torchvision_sets


def test_torchvision_imports_here() -> None:
    assert torchvision_sets.import_torchvision().__name__ == "torchvision"
    from torchvision import datasets, transforms

    assert hasattr(datasets, "MNIST") and hasattr(transforms, "ToTensor")


def test_a_working_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_sets, "_declared", [])
    monkeypatch.setattr(importlib, "import_module", lambda name: ModuleType(name))
    assert torchvision_sets.import_torchvision().__name__ == "torchvision"
    assert not torchvision_sets.shim_in_use()


def test_missing_operators_are_declared_once_and_the_import_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    defined: list[str] = []

    def first_fails(name: str) -> ModuleType:
        calls.append(name)
        if len(calls) == 1:
            raise RuntimeError("operator torchvision::nms does not exist")
        return ModuleType(name)

    class Library:
        def __init__(self, *_: str) -> None: ...

        def define(self, schema: str) -> None:
            defined.append(schema.split("(")[0])

    monkeypatch.setattr(torchvision_sets, "_declared", [])
    monkeypatch.setattr(importlib, "import_module", first_fails)
    monkeypatch.setattr(torchvision_sets.torch.library, "Library", Library)
    torchvision_sets.import_torchvision()
    assert (
        calls == ["torchvision"] * 2
        and defined == ["nms", "qnms"]
        and torchvision_sets.shim_in_use()
    )


@pytest.mark.parametrize(
    "message", ["something else is broken", "operator torchvision::nms does not exist"]
)
def test_other_failures_are_not_hidden(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> ModuleType:
        raise RuntimeError(message)

    # The operators are declared already: a second failure for want of them is a real one.
    monkeypatch.setattr(torchvision_sets, "_declared", [object()])
    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(RuntimeError, match=message):
        torchvision_sets.import_torchvision()
