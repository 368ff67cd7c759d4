"""`python -m eqprop_lab sweep CONFIG`: trainings over a space; start it in as many shells as help.

A config is an experiment file with one section more:

    sweep:
      trials: 20                        left out: every combination of the lists
      metric: val_accuracy              of the history, its last value; the default
      direction: maximize               or minimize
      space:
        training.learning_rate: {low: 1e-4, high: 1e-1, log: true}
        model.params.hidden_dim: [64, 128]

A process that dies costs nothing: another one makes its trial again. Nothing is made twice.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqprop_lab.commands.arguments import make_parser, refuse
from eqprop_lab.experiments.config import SECTIONS, on_device, parse_config, train_from_config
from eqprop_lab.experiments.errors import USERS_ERRORS
from eqprop_lab.experiments.sweeps import Params, Report, check_space, sweep
from eqprop_lab.training.history import Record
from eqprop_lab.validation import a_path, known_keys, one_of, shown
from eqprop_lab.yaml_files import read_yaml

KEYS = ("trials", "metric", "direction", "space", "retries")


def main(argv: Sequence[str]) -> int:
    """0 when the sweep is done, 2 for a wrong call, config or data."""
    parser = make_parser("sweep", __doc__, "--runs", "--device")
    parser.add_argument("config", help="a YAML file")
    options = parser.parse_args(argv)
    try:
        base, asked = read(a_path("config", options.config), options.device)
        metric, space = str(asked.get("metric", "val_accuracy")), asked["space"]
        first = {name: _some(axis) for name, axis in check_space(space).items()}
        parse_config(placed(base, first))  # before any trial: names, and values at one point
        name = str((base.get("experiment") or {}).get("name", "sweep"))
        found = sweep(
            lambda params, report: trial(base, params, metric, report),
            space,
            asked.get("trials"),
            study=name,
            storage=Path(options.runs) / "sweeps.db",
            direction=asked.get("direction", "maximize"),
            retries=asked.get("retries", 2),
            about={"config": base, "metric": metric},
        )
    except USERS_ERRORS as error:
        return refuse(error)
    print(found.table())
    print(f"stored in {found.to_csv(Path(options.runs) / f'{name}.csv')}")
    return 0


def read(path: Path, device: str | None) -> tuple[Params, Params]:
    """(the experiment, its section `sweep`). Raises FileNotFoundError, TypeError, ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"config {shown(str(path))} is no file")
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("sweep"), Mapping):
        raise ValueError(f"{path.name} must have a section 'sweep' with a space")
    asked = dict(content["sweep"])
    known_keys("section 'sweep'", asked, KEYS)
    if "space" not in asked:
        raise ValueError(f"{path.name}: section 'sweep' must have a space, got {sorted(asked)}")
    base = {key: value for key, value in content.items() if key != "sweep"}
    return on_device(base, device), asked


def placed(base: Params, params: Mapping[str, Any]) -> Params:
    """The experiment with settings by their dotted names. Raises ValueError for a name that leads
    through no section.
    """
    content = copy.deepcopy(base)
    for name, value in params.items():
        first, *rest = name.split(".")
        one_of("section of a setting in the space", first, SECTIONS)
        if not rest:
            raise ValueError(f"space[{name!r}] must name a setting, like {name}.learning_rate")
        inner = content
        for part in (first, *rest[:-1]):
            if inner.get(part) is None:
                inner[part] = {}
            inner = inner[part]
            if not isinstance(inner, dict):
                raise ValueError(f"space[{name!r}]: {part!r} is no section, but {shown(inner)}")
        inner[rest[-1]] = value
    return content


def trial(base: Params, params: Params, metric: str, report: Report) -> float:
    """One training; the metric of every epoch is reported, its last value returned."""

    def epoch(record: Record) -> None:
        if metric not in record:
            one_of("sweep.metric", metric, record)
        report(int(record["epoch"]), float(record[metric]))

    _, history = train_from_config(placed(base, params), [epoch])
    return float(history[metric][-1])


def _some(axis: Any) -> Any:
    return axis[0] if isinstance(axis, list) else axis["low"]
