from __future__ import annotations

import importlib

import pytest

from eqprop_lab.__main__ import COMMANDS, main


def test_every_command_has_a_module_with_a_main() -> None:
    assert {"run", "doctor", "lint-notebooks"} <= set(COMMANDS)
    names = [name.replace("-", "_") for name in COMMANDS]
    assert all(
        callable(importlib.import_module(f"eqprop_lab.commands.{name}").main) for name in names
    )


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), ([], 2), (["rnu"], 2)])
def test_usage_lists_the_commands(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    said = capsys.readouterr()
    assert all(name in said.out + said.err for name in COMMANDS)


def test_arguments_go_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", "--help"])
    assert stop.value.code == 0
    assert "--rebaseline" in capsys.readouterr().out
