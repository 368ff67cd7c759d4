"""The tables of the README, made from what the project holds: `python tools/readme_tables.py [--check]`.

The map comes from the title cells of the notebooks, the results from `data/results/*.json`. Each stands between two
markers (<!-- map --> ... <!-- /map -->); a test runs `--check`, so the README cannot fall behind.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from eqprop_lab.notebook.series import series, series_table

ROOT = Path(__file__).resolve().parent.parent
ROWS = (("eqprop", "LoopedMLP, EqProp"), ("backprop", "BackpropMLP, backprop"))


def results_table(folder: Path) -> str:
    """One row a result: value, spread over seeds, estimator, device, time, notebook; the backprop twin below it."""
    lines = ["| Data | Network | Estimator | Test accuracy | Seeds | CPU time a seed | Device | Notebook |"]
    lines.append("|:--|:--|:--|--:|--:|--:|:--|:--|")
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if all(key in result for key, _ in ROWS):
            lines += [_row(result, key, name) for key, name in ROWS]
    return "\n".join(lines)


def _row(result: dict[str, Any], key: str, name: str) -> str:
    runs = result[key]
    accuracy = [100 * run["test_accuracy"] for run in runs]
    estimator = f"`{result['estimator']}`, beta {result['recipe']['beta']}" if key == "eqprop" else "autograd"
    sizes = "-".join(str(size) for size in result["sizes"])
    seconds = statistics.mean(run["cpu_seconds"] for run in runs)
    cells = (
        result["dataset"],
        f"{name}, {sizes}, {result['parameters']:,} parameters",
        estimator,
        f"{statistics.mean(accuracy):.2f} ± {statistics.stdev(accuracy):.2f} %",
        str(len(runs)),
        f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s",
        result["device"],
        "[04](notebooks/04_looped_mlp.ipynb)",
    )
    return "| " + " | ".join(cells) + " |"


def filled(text: str) -> str:
    """The README with both tables made anew. Raises ValueError when a marker is missing."""
    tables = {
        "map": series_table(series(ROOT / "notebooks"), "notebooks/"),
        "results": results_table(ROOT / "data" / "results"),
    }
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"README.md lacks the markers <!-- {name} --> and <!-- /{name} -->")
        text = pattern.sub(lambda found, table=table: found[1] + table + "\n" + found[2], text)  # type: ignore[misc]
    return text


def main(arguments: list[str]) -> int:
    """Write the tables, or with --check say whether they are up to date."""
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = filled(before)
    if arguments == ["--check"]:
        if before != after:
            print("README.md: the tables are out of date; run python tools/readme_tables.py", file=sys.stderr)
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
