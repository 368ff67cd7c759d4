"""torch.hub gives the networks that come trained: each of them, the right one, and no other."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eqprop_lab.deploy.opening import lookup_networks
from eqprop_lab.experiments.trained import list_trained, load_trained, trained_info
from eqprop_lab.lut import load_pretrained

ROOT = Path(__file__).parents[2]
NAMES = [*list_trained(), *lookup_networks()]

# hides what a plain install brings and the entry points do not ask for
STRIPPED = """
import importlib.abc, json, sys
names = json.loads(sys.argv[2])
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
ABSENT = set(json.loads(sys.argv[3]))
sys.meta_path.insert(0, Absent())
import torch
for name in names:
    torch.hub.load(sys.argv[1], name, source="local")
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


def hub(name: str, *args: Any, **kwargs: Any) -> Any:
    return torch.hub.load(str(ROOT), name, *args, source="local", **kwargs)


@pytest.mark.parametrize("name", list_trained())
def test_a_trained_network_is_that_of_its_name(name: str) -> None:
    found, wanted = hub(name), load_trained(name)
    assert type(found) is type(wanted) and not found.training
    mine = found.state_dict()
    for key, value in wanted.state_dict().items():
        assert not isinstance(value, torch.Tensor) or torch.equal(mine[key], value), key


@pytest.mark.parametrize("name", lookup_networks())
def test_a_network_of_tables_is_that_of_its_name(name: str) -> None:
    found, wanted = hub(name), load_pretrained(name)
    assert all(map(torch.equal, found.buffers(), wanted.buffers()))
    assert all(map(torch.equal, found.parameters(), wanted.parameters()))
    assert not found.training


def test_the_list_is_that_of_the_package_and_each_says_what_it_is() -> None:
    """By the rule of `torch.hub.list`, which has no way to a local folder."""
    found = runpy.run_path(str(ROOT / "hubconf.py"))
    listed = [name for name, value in found.items() if callable(value) and name[0] != "_"]
    assert sorted(listed) == sorted([*NAMES, "network"])
    said, info = found["digits_conv"].__doc__, trained_info("digits_conv")
    assert info["model"] in said and str(info["test_accuracy"]) in said
    assert "look-up tables, trained on digits: test_accuracy 0.9" in found["digits_small"].__doc__


def test_a_network_by_argument() -> None:
    model = hub("network", "mnist_8x8_resnet", device="cpu")
    assert type(model) is type(load_trained("mnist_8x8_resnet"))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of .*digits_conv.*got 'digits_con'"):
        hub("network", "digits_con")
    with pytest.raises(RuntimeError, match="digits_con in hubconf"):
        hub("digits_con")
    with pytest.raises(ValueError, match="name must be one of"):
        hub("network", str(ROOT / "README.md"))  # no way to files and runs


def test_what_it_depends_on_is_enough_and_is_needed() -> None:
    """With all else that a plain install brings out of the way, every network loads."""
    asked = set(runpy.run_path(str(ROOT / "hubconf.py"))["dependencies"])
    plain = {"PIL", "filelock", "matplotlib", "nbformat", "numpy", "packaging", "safetensors",
             "scipy", "sklearn", "torch", "torchvision", "tqdm", "yaml"}  # fmt: skip
    # torch itself imports these two
    absent = sorted(plain - asked - {"filelock", "packaging"})
    done = subprocess.run(
        [sys.executable, "-c", STRIPPED, str(ROOT), json.dumps(NAMES), json.dumps(absent)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert asked <= set(json.loads(done.stdout.replace("'", '"')))
