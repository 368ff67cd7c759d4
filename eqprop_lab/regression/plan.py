"""What a run will do, decided and checked before a kernel starts: options, notebooks, parameters, time limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from eqprop_lab.regression.execute import Job
from eqprop_lab.regression.parameters import Parameter, ParameterError, check_parameters, read_parameters

PROFILES: dict[str, float] = {"smoke": 60.0, "full": 3600.0, "cuda": 3600.0}


@dataclass(frozen=True)
class Options:
    """What a run is asked for. `root` is the project folder; `output` takes everything a run writes."""

    root: Path
    output: Path
    baseline: Path
    profile: str = "smoke"
    jobs: int = 2
    parameters: Mapping[str, Any] = field(default_factory=dict)
    update: bool = False
    seeds: Sequence[int] = ()
    rebaseline: bool = False
    time_limit: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    progress_bar: bool = True


@dataclass(frozen=True)
class Plan:
    """One notebook, read and checked: nothing has been executed yet."""

    path: Path
    source: NotebookNode
    declared: Mapping[str, Parameter]
    parameters: Mapping[str, Any]
    limit: float

    @property
    def changed(self) -> set[str]:
        """Names of the parameters that differ from the notebook's defaults."""
        return {name for name, value in self.parameters.items() if self.declared[name].default != value}


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: here) that holds notebooks/ and pyproject.toml.

    Raises ParameterError when there is none: the installed package carries no notebooks.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise ParameterError("no project here: run this in the folder that holds notebooks/ and pyproject.toml")


def find_notebooks(names: Sequence[str], root: Path) -> list[Path]:
    """Paths of the named notebooks (a path, a stem, or a number such as 04); all of the series for no names.

    Raises ParameterError for an unknown name, with the nearest known one.
    """
    series = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return series
    found: list[Path] = []
    for name in names:
        hits = [path for path in series if name in (path.stem, path.name, path.stem[:2])]
        if not hits and Path(name).suffix == ".ipynb" and Path(name).is_file():
            hits = [Path(name).resolve()]
        if not hits:
            near = difflib.get_close_matches(name, [path.stem for path in series], n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(p.stem for p in series) or 'none'}"
            raise ParameterError(f"no notebook {name!r}; {hint}")
        found += [path for path in hits if path not in found]
    return found


def plan_notebook(path: Path, options: Options) -> Plan:
    """Read a notebook, check the given parameters against its tagged cell. Raises ParameterError, ValueError."""
    try:
        source = nbformat.read(path, as_version=4)
    except Exception as error:
        raise ParameterError(f"{path.name}: not a notebook: {str(error).splitlines()[0]}") from error
    declared = read_parameters(source, path.stem)
    parameters = check_parameters(declared, options.parameters, path.stem)
    if "profile" in parameters:
        raise ParameterError(f"{path.stem}: the profile is chosen with --profile, not as a parameter")
    if "profile" in declared:
        parameters = {"profile": options.profile} | parameters
    if options.seeds and "seed" not in declared:
        raise ParameterError(f"{path.stem}: --seeds needs a parameter 'seed'")
    limits = PROFILES | dict(source.metadata.get("eqprop", {}).get("time_limit", {}))
    limit = options.time_limit if options.time_limit is not None else float(limits[options.profile])
    return Plan(path, source, declared, parameters, limit)


def jobs_of(plans: Sequence[Plan], options: Options) -> list[Job]:
    """One job per notebook, or one per notebook and seed (those write no figures)."""
    folder = options.output / "notebooks"
    if not options.seeds:
        figures = options.output / "figures"
        return [
            Job(p.path.stem, p.path, folder / p.path.name, p.parameters, p.limit, figures, options.env) for p in plans
        ]
    keys = [(plan, seed, f"{plan.path.stem}-seed{seed}") for plan in plans for seed in options.seeds]
    return [
        Job(key, p.path, folder / f"{key}.ipynb", {**p.parameters, "seed": seed}, p.limit, None, options.env)
        for p, seed, key in keys
    ]
