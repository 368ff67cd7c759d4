"""What a run will do, decided before a kernel starts: options, notebooks, parameters, limits."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from eqprop_lab.files import nearest
from eqprop_lab.regression.execute import Job
from eqprop_lab.regression.outputs import is_finite
from eqprop_lab.regression.parameters import (
    NotebookError,
    Parameter,
    ParameterError,
    check_parameters,
    first_line,
    read_parameters,
)

PROFILES: dict[str, float] = {"smoke": 60.0, "full": 3600.0, "cuda": 3600.0}
LONGEST = 7 * 86400.0


@dataclass(frozen=True)
class Options:
    """What a run is asked for. `root`: the project; `output` takes everything a run writes."""

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
    """One notebook, read and checked: nothing has been executed yet.

    name: what the baseline, the report and the index of figures call it
    key: what its files are called
    """

    path: Path
    name: str
    key: str
    source: NotebookNode
    declared: Mapping[str, Parameter]
    parameters: Mapping[str, Any]
    limit: float

    @property
    def changed(self) -> set[str]:
        """Names of the parameters that differ from the notebook's defaults."""
        return {
            name for name, value in self.parameters.items() if self.declared[name].default != value
        }


def project_root(start: Path | None = None) -> Path:
    """The nearest folder from `start` (default: here) up with notebooks/ and pyproject.toml.

    Raises ParameterError when there is none: the installed package carries no notebooks.
    """
    found = nearest(
        lambda folder: (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file(),
        start,
    )
    if found is None:
        raise ParameterError(
            "no project here: run this in the folder that holds notebooks/ and pyproject.toml"
        )
    return found


def find_notebooks(names: Sequence[str], root: Path) -> list[Path]:
    """Paths of the named notebooks (a path, a stem, a number such as 04); no name: the series.

    Raises ParameterError for an unknown name, with the nearest known one.
    """
    series = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return series
    found: list[Path] = []
    for name in names:
        hits = [path for path in series if name in (path.stem, path.name, path.stem[:2])]
        if Path(name).suffix == ".ipynb" and Path(name).is_file():
            here = Path(name).resolve()
            if any(here != path.resolve() for path in hits):
                raise ParameterError(
                    f"{name} is there twice, {here} and {hits[0]}: give the one you mean as a path"
                )
            hits = hits or [here]
        if not hits:
            stems = [path.stem for path in series]
            near = difflib.get_close_matches(name, stems, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(stems) or 'none'}"
            raise ParameterError(f"no notebook {name!r}; {hint}")
        found += [path for path in hits if path not in found]
    return found


def name_of(path: Path, root: Path) -> str:
    """What a notebook is called: its stem in notebooks/, elsewhere its path without the ending."""
    # The file itself may be a link: its name is the one that it has here.
    place = path.parent.resolve() / path.name
    base = root.resolve()
    if place.parent == base / "notebooks":
        return place.stem
    inside = place.relative_to(base) if place.is_relative_to(base) else place
    # The stroke in it keeps it apart from the names in notebooks/.
    return ("./" if len(inside.parts) == 1 else "") + inside.with_suffix("").as_posix()


def key_of(path: Path, root: Path) -> str:
    """What the files of a notebook are called: as no other notebook's, whatever its folder."""
    name = name_of(path, root)
    if "/" not in name:
        return name
    return f"{path.stem}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def read_notebook(path: Path) -> NotebookNode:
    """A notebook of format 4 that names its kernel. Raises NotebookError for any other file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("nbformat") if isinstance(content, dict) else None
        source = nbformat.read(path, as_version=4)
        nbformat.validate(source)
    except OSError as error:
        raise NotebookError(f"{path.name}: {error.strerror or error}") from error
    except Exception as error:
        raise NotebookError(f"{path.name}: not a notebook: {first_line(error)}") from error
    if version != 4:
        raise NotebookError(
            f"{path.name}: a notebook of format {version!r}, and 4 is needed: save it in JupyterLab"
        )
    kernel = source.metadata.get("kernelspec", {})
    name = kernel.get("name") if isinstance(kernel, dict) else None
    if not isinstance(name, str) or not name:
        raise NotebookError(
            f"{path.name}: names no kernel (kernelspec.name in its metadata): choose one in "
            "JupyterLab"
        )
    return source


def _limit(source: NotebookNode, path: Path, options: Options) -> float:
    if options.time_limit is not None:
        return options.time_limit
    own = source.metadata.get("eqprop", {})
    own = own.get("time_limit", {}) if isinstance(own, dict) else own
    limit = own.get(options.profile, PROFILES[options.profile]) if isinstance(own, dict) else None
    if not is_finite(limit) or not 0 < limit <= LONGEST:
        raise NotebookError(
            f"{path.name}: eqprop.time_limit in its metadata must be {{profile: seconds}}, "
            f"seconds above 0, got {own!r}"
        )
    return float(limit)


def plan_notebook(path: Path, options: Options) -> Plan:
    """Read a notebook, check the given parameters against its tagged cell.

    Raises NotebookError for a notebook that cannot be run, ParameterError for values it does not
    accept.
    """
    source = read_notebook(path)
    declared = read_parameters(source, path.stem)
    parameters = check_parameters(declared, options.parameters, path.stem)
    if "profile" in parameters:
        raise ParameterError(
            f"{path.stem}: the profile is chosen with --profile, not as a parameter"
        )
    if "profile" in declared:
        parameters = {"profile": options.profile} | parameters
    if options.seeds and "seed" not in declared:
        raise ParameterError(f"{path.stem}: --seeds needs a parameter 'seed'")
    return Plan(
        path,
        name_of(path, options.root),
        key_of(path, options.root),
        source,
        declared,
        parameters,
        _limit(source, path, options),
    )


def jobs_of(plans: Sequence[Plan], options: Options) -> list[Job]:
    """One job a notebook, or one a notebook and seed (those write no figures), with its own files.

    Raises ParameterError for one notebook given twice, or two whose files would have one name.
    """
    seeds: Sequence[int | None] = options.seeds or [None]
    jobs: dict[str, Job] = {}
    for plan, seed in itertools.product(plans, seeds):
        key = plan.key if seed is None else f"{plan.key}-seed{seed}"
        if key in jobs:
            raise ParameterError(
                f"{jobs[key].notebook} and {plan.path} would share the files of {key!r}"
            )
        jobs[key] = Job(
            key,
            plan.path,
            options.output / "notebooks" / f"{key}.ipynb",
            {**plan.parameters} if seed is None else {**plan.parameters, "seed": seed},
            plan.limit,
            options.output / "figures" / key if seed is None else None,
            options.env,
            plan.name,
        )
    return list(jobs.values())
