"""The same command again and again: the run of a config is found in the store, and goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eqprop_lab.experiments.comparing import differences
from eqprop_lab.experiments.runs import Run, RunError, RunStore


def runs_named(store: RunStore, name: str) -> list[Run]:
    """The runs of the experiment of that name, oldest first."""
    return [run for run in store.runs() if _section(run.config, "experiment").get("name") == name]


def take_up(store: RunStore, config: Mapping[str, Any]) -> Run | None:
    """The latest run of this config, finished or not; None where its experiment has none yet.

    On which device it was trained makes no difference. Raises RunError naming what differs when all
    runs of the experiment have other configs.
    """
    name = config["experiment"]["name"]
    named = runs_named(store, name)
    if not named:
        return None
    here = _placeless(config)
    others = [differences(_placeless(run.config), here) for run in named]
    same = [run for run, other in zip(named, others, strict=True) if not other]
    if same:
        return same[-1]
    first = others[-1][0]
    id = named[-1].id
    raise RunError(
        f"run {id} of {name!r} has another config: {first.name} is {first.a!r} there, {first.b!r} "
        f"here; go on with it by --resume {id}, give the experiment another name, or begin a new "
        "run without --resume"
    )


def _placeless(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as YAML holds it, without the device."""
    plain: dict[str, Any] = json.loads(json.dumps(config))
    plain["training"] = {k: v for k, v in _section(plain, "training").items() if k != "device"}
    return plain


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}
