"""The public names load what they need when they are asked for, and are all there beforehand."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import eqprop_lab
from eqprop_lab.lazy import attach


def fresh(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_and_the_records_of_the_runner_load_no_torch() -> None:
    code = "import sys, {}; assert not {{'torch', 'matplotlib', 'sklearn'}} & set(sys.modules)"
    fresh(code.format("eqprop_lab"))
    fresh(code.format("eqprop_lab.__main__"))
    fresh(code.format("eqprop_lab.regression.baseline"))


def test_a_name_loads_its_room_and_a_room_its_files() -> None:
    fresh(
        "import eqprop_lab as ep, sys;"
        "assert 'relax' in dir(ep) and 'relax' in ep.__all__ and 'training' in dir(ep);"
        "assert ep.relax.__module__ == 'eqprop_lab.equilibrium.relaxation';"
        "assert 'eqprop_lab.training' not in sys.modules;"
        "assert ep.training.EqPropTrainer is ep.EqPropTrainer;"
        "assert ep.experiments.runs.RunStore and 'runs' in dir(ep.experiments);"
        "from eqprop_lab import *; assert LoopedMLP and __version__ == ep.__version__"
    )


def test_every_name_is_where_the_stub_says() -> None:
    assert all(getattr(eqprop_lab, name) is not None for name in eqprop_lab.__all__)
    assert len(eqprop_lab.__all__) == len(set(eqprop_lab.__all__)) > 40
    shared = set(eqprop_lab.__all__) & (set(dir(eqprop_lab)) - set(eqprop_lab.__all__))
    assert not shared and "__main__" not in dir(eqprop_lab)
    assert import_module("eqprop_lab.notebook") is attach("eqprop_lab")[0]("notebook")


def test_a_typo_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match="no attribute 'relx'; did you mean 'relax'"):
        eqprop_lab.relx  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'training'"):
        eqprop_lab.trainign  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(eqprop_lab, "qqqqqq") and not hasattr(eqprop_lab, "__wrapped__")


def test_a_name_whose_home_lacks_it_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy_room").mkdir()
    (tmp_path / "lazy_room" / "__init__.py").touch()
    (tmp_path / "lazy_room" / "__init__.pyi").write_text("from math import tau as tau, tow as tow")
    monkeypatch.syspath_prepend(tmp_path)
    find, _, names = attach("lazy_room")
    assert names == ["tau", "tow"] and find("tau") > 6
    with pytest.raises(AttributeError, match="'math' has no attribute 'tow'"):
        find("tow")
