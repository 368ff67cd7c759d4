"""Whoever asks a benchmark for --help is told, and no stored result is written anew."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROGRAMS = [
    file
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if "\nif __name__" in file.read_text()
]


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_a_benchmark_reads_its_arguments(file: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert any(ast.unparse(call.func).endswith(".parse_args") for call in calls)
