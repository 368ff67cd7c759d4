"""Public methods say what they do, except where they override one that says it.

Ruff's D102 cannot tell the two apart.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
METHODS = (type(lambda: None), property, classmethod, staticmethod, functools.cached_property)


def modules() -> Iterator[str]:
    for folder in ("eqprop_lab", "tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def silent(cls: type) -> Iterator[str]:
    """Public methods of a class without a docstring that no class above it has."""
    for name, member in vars(cls).items():
        own = not any(name in vars(base) for base in cls.__mro__[1:])
        if isinstance(member, METHODS) and not name.startswith("_") and own and not member.__doc__:
            yield f"{cls.__module__}.{cls.__qualname__}.{name}"


def test_public_methods_have_a_docstring_unless_they_override() -> None:
    classes = {
        member
        for module in modules()
        for name, member in vars(importlib.import_module(module)).items()
        if isinstance(member, type) and member.__module__ == module and not name.startswith("_")
    }
    assert len(classes) > 50
    assert [name for cls in classes for name in silent(cls)] == []


def test_an_override_inherits_and_a_new_method_does_not() -> None:
    class Base:
        def told(self) -> None:
            """What it does."""

    class Child(Base):
        def told(self) -> None: ...

        def new(self) -> None: ...

        def _private(self) -> None: ...

    assert list(silent(Base)) == []
    assert [name.rpartition(".")[2] for name in silent(Child)] == ["new"]


@pytest.mark.parametrize("kind", [property, classmethod, staticmethod])
def test_every_kind_of_method_counts(kind: type) -> None:
    cls = type("Some", (), {"asked": kind(lambda *_: None)})
    assert len(list(silent(cls))) == 1
