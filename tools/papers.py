"""`notebooks/papers.md`, published figures beside ours: `python tools/papers.py [--check]`.

A row is an entry of `eqprop.papers` in the metadata of a notebook: paper, where (figure or table),
value (what was published), then what ours is read from: `metric`, a recorded number of the notebook
in tests/regression/baseline.json, or `stored`, runs of a result in data/results, which comes first.
`function`, `differs` and `by` (authors and year, where the notebook does not list the paper) may
follow. Nothing of ours is typed; an entry whose value is null is a statement and no row.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqprop_lab.regression.baseline import read_baseline
from eqprop_lab.tables import markdown_table, with_spread

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("Paper, figure or table", "Published", "Ours", "Made by", "What differs")
HEAD = """# Papers: published figures beside ours

A row for each published figure that a notebook of the series makes again, or stands beside. Ours is
never typed here: it is read from the stored results (mean and spread over seeds), or from what each
run of the notebook records and its regression test holds: ≤ and ≥ are limits that every run keeps,
"within" is the tolerance around a value that theory demands. In brackets stands the number of
seeds. "Made by" names the notebook and what to call in `eqprop_lab`. Most published networks are
larger and train for longer: the last column says what differs.
"""
NAME = re.compile(r"(?:[A-Z]\.[ -]?)+ ?((?:de |van |von )?[^\W\d_][\w'’-]+(?: [A-Z][\w'’-]+)*)")
LIMITS = {"min": ("≥", -1.0), "max": ("≤", 1.0)}


@dataclass(frozen=True)
class Ours:
    """A number of ours as it is shown, and the number of seeds it rests on."""

    shown: str
    seeds: int


def address(paper: str) -> str:
    """Where a DOI or an arXiv id leads. Raises ValueError for another kind."""
    kind, _, identifier = paper.partition(":")
    places = {"doi": "https://doi.org/", "arXiv": "https://arxiv.org/abs/"}
    if kind not in places or not identifier:
        raise ValueError(f"paper = {paper!r}: doi:... or arXiv:... is needed")
    return places[kind] + identifier.strip()


def authors(references: str, paper: str) -> str:
    """Authors and year of a paper as a list of references has them, "" where it is not there.

    One name, two, or the first with "et al.".
    """
    line = next((line for line in references.splitlines() if paper.lower() in line.lower()), "")
    if not line:
        return ""
    text = line[: line.lower().index(paper.lower())]
    names = NAME.findall(text.partition("(")[0])
    years = re.findall(r"\((\d{4})\)", text) or re.findall(r"\b(?:19|20)\d\d\b", text)
    if not names or not years:
        return ""
    several = len(names) > 2 or "et al" in text
    return f"{names[0] + ' et al.' if several else ' and '.join(names)} {years[-1]}"


def recorded(entry: Mapping[str, Any]) -> Ours:
    """A metric of the baseline: mean and spread, or what the regression test holds it to."""
    kind, value, tol = entry["kind"], float(entry["value"]), float(entry.get("tol", 0.0))
    seeds = len(entry["seeds"])
    if kind in LIMITS:
        sign, side = LIMITS[kind]
        return Ours(f"{sign} {_number(value + side * tol)}", seeds)
    if kind == "exact":
        return Ours(_number(value), seeds)
    if kind == "order":
        return Ours(f"about {_number(value)}", seeds)
    if entry.get("source") == "seeds":
        return Ours(f"{_number(value)} ± {float(entry['sd']):.2g}", seeds)
    width = tol * abs(value) if kind == "rel" else tol
    return Ours(f"{_number(value)} within {width:.2g}", seeds)


def stored(folder: Path, wanted: Mapping[str, Any]) -> Ours:
    """Mean and spread over seeds, in per cent, of the runs that an entry names.

    wanted: `result` (a file in the folder), `runs` (a list in it, dots lead down), `only` (fields
    that a run must have), `field` (default test_accuracy, a fraction), and `twin`, a list of runs
    of the same seeds, from which the points of lead are counted, seed by seed.
    Raises ValueError when there is no run, a seed comes twice, or the twin has other seeds.
    """
    result = json.loads((folder / f"{wanted['result']}.json").read_text(encoding="utf-8"))
    values = _by_seed(_at(result, wanted["runs"]), wanted)
    if "twin" in wanted:
        others = _by_seed(_at(result, wanted["twin"]), wanted)
        if set(others) != set(values):
            raise ValueError(f"the twin has seeds {sorted(others)}, not {sorted(values)}")
        values = {seed: value - others[seed] for seed, value in values.items()}
    return Ours(with_spread(list(values.values())) + _unit(wanted), len(values))


def _by_seed(runs: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> dict[int, float]:
    """A field of the runs that are wanted, in per cent, by their seeds."""
    only, field = wanted.get("only", {}), wanted.get("field", "test_accuracy")
    found = [run for run in runs if only.items() <= run.items()]
    seeds = [run["seed"] for run in found]
    if not found or len(set(seeds)) != len(seeds):
        raise ValueError(f"{dict(wanted)}: one run a seed is needed, found seeds {seeds}")
    return {run["seed"]: 100 * _at(run, field) for run in found}


def _unit(wanted: Mapping[str, Any] | None) -> str:
    return "" if wanted is None else " points" if "twin" in wanted else " %"


def rows(root: Path) -> Iterator[tuple[str, ...]]:
    """The rows of the page, in the order of the notebooks and of their entries.

    Raises ValueError naming the notebook for a paper without authors and a metric that is nowhere.
    """
    baseline = read_baseline(root / "tests" / "regression" / "baseline.json")
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        nb = json.loads(path.read_text(encoding="utf-8"))
        for entry in nb["metadata"].get("eqprop", {}).get("papers", []):
            if entry["value"] is not None:
                try:
                    yield _row(path.stem, entry, nb, baseline.get(path.stem, {}), root)
                except (KeyError, ValueError) as error:
                    raise ValueError(f"{path.stem}, {entry['paper']}: {error}") from error


def page(root: Path) -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *markdown_table(COLUMNS, list(rows(root)), right=(1, 2)), ""])


def _row(
    name: str,
    entry: Mapping[str, Any],
    nb: Mapping[str, Any],
    metrics: Mapping[str, Any],
    root: Path,
) -> tuple[str, ...]:
    by = entry.get("by") or authors(_references(nb), entry["paper"])
    if not by:
        raise ValueError("not in the list of references; `by` says authors and year")
    wanted = entry.get("stored")
    ours = (
        stored(root / "data" / "results", wanted) if wanted else recorded(metrics[entry["metric"]])
    )
    return (
        f"[{by}]({address(entry['paper'])}), {entry['where']}",
        _number(entry["value"]) + _unit(wanted),
        f"{ours.shown} ({ours.seeds})",
        f"[{name[:2]}]({name}.ipynb)" + (f" `{entry['function']}`" if "function" in entry else ""),
        entry.get("differs", ""),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _references(nb: Mapping[str, Any]) -> str:
    texts = ("".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "markdown")
    return next((text for text in texts if re.search("^## References", text, re.MULTILINE)), "")


def _at(content: Any, path: str) -> Any:
    for key in path.split("."):
        content = content[key]
    return content


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write the page, or with --check say whether it is up to date."""
    path, text = root / "notebooks" / "papers.md", page(root)
    if list(arguments) == ["--check"]:
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old != text:
            print("notebooks/papers.md is out of date; run python tools/papers.py", file=sys.stderr)
        return int(old != text)
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
