from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eqprop_lab.commands import dashboard


def test_it_listens_on_this_machine_only_and_ends_what_nobody_uses() -> None:
    flags = dashboard.arguments(9000, "light", browser=False)
    assert Path(flags[0]).is_file() and flags[-1] == "--no-browser"
    said = dict(flag[2:].split("=", 1) for flag in flags[1:-1])
    assert said["Voila.ip"] == "127.0.0.1" and said["Voila.port"] == "9000"
    assert said["VoilaConfiguration.strip_sources"] == "True"
    assert int(said["MappingKernelManager.cull_idle_timeout"]) == 600
    assert int(said["MappingKernelManager.cull_interval"]) <= 60
    assert "--no-browser" not in dashboard.arguments(9000, "dark", browser=True)


def test_a_port_that_is_taken_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((dashboard.HOST, 0))
        taken.listen()
        monkeypatch.setattr(dashboard, "PORT", taken.getsockname()[1])
        assert dashboard.free_port() != dashboard.PORT


def test_runs_go_into_the_folder_that_is_named(tmp_path: Path) -> None:
    found = dashboard.environment(tmp_path)
    assert found["EQPROP_DASHBOARD_RUNS"] == str(tmp_path / "dashboard")
    template = Path(found["JUPYTER_PATH"].split(os.pathsep)[0]) / "voila/templates/eqprop"
    text = (template / "index.html.j2").read_text(encoding="utf-8")
    assert "://" not in text and (template / "conf.json").is_file()


def test_the_command_starts_voila(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    app = SimpleNamespace(Voila=SimpleNamespace(launch_instance=lambda argv: calls.append(argv)))
    monkeypatch.setitem(sys.modules, "voila", SimpleNamespace(app=app))
    monkeypatch.setitem(sys.modules, "voila.app", app)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert dashboard.main(["--port", "9001", "--no-browser", "--runs", str(tmp_path)]) == 0
    assert "--Voila.port=9001" in calls[0] and "http://127.0.0.1:9001/" in capsys.readouterr().out
    assert os.environ["EQPROP_DASHBOARD_RUNS"].startswith(str(tmp_path))


def test_without_voila_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert dashboard.main([]) == 2
    assert "pip install 'eqprop_lab[lab,dashboard]'" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--port", "0"], ["--port", "x"], ["--theme", "blue"], ["--ip"]])
def test_a_wrong_call_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        dashboard.main(wrong)
    assert end.value.code == 2
