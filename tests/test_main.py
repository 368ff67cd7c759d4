from __future__ import annotations

import importlib

import pytest

import eqprop_lab
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


@pytest.mark.parametrize("argument", ["--version", "-V"])
def test_the_version_is_that_of_the_package(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument]) == 0
    assert capsys.readouterr().out == f"eqprop_lab {eqprop_lab.__version__}\n"
    main(["--help"])
    assert "--version" in capsys.readouterr().out


def test_arguments_go_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", "--help"])
    assert stop.value.code == 0
    assert "--rebaseline" in capsys.readouterr().out
