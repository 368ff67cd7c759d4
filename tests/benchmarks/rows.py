"""A stored result made of rows, each written at once: a long job can be cut anywhere and goes on.

The file holds date, device, versions, seeds, what the rows share, and `rows`, each with a seed (an
integer where test images were looked at); a row that is there is not made again. A file that was
made otherwise is refused, or discarded.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eqprop_lab.experiments.runs import public_versions
from eqprop_lab.files import replace_text
from tests.benchmarks.published import Row, StaleResult, processor, read


class Rows:
    """The rows of one file. shared: what they have in common, plain values.

    Raises StaleResult for a file whose rows were made with something else in common.
    """

    def __init__(self, path: Path, shared: Mapping[str, Any], fresh: bool = False) -> None:
        self.path, self.shared = path, json.loads(json.dumps(shared))
        there = {} if fresh else read(path) or {}
        differ = sorted(key for key in self.shared if there and there.get(key) != self.shared[key])
        if differ:
            raise StaleResult(
                f"{path.name} was made with another {', '.join(differ)}: --fresh discards it"
            )
        self.rows: list[Row] = there.get("rows", [])

    def make(self, key: Row, row: Callable[[], Row]) -> Row:
        """The stored row of these values, or a new one, which is then stored."""
        found = next((r for r in self.rows if key.items() <= r.items()), None)
        if found is None:
            found = {**key, **row()}
            self.rows.append(found)
            self._write()
            print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
        return found

    def _write(self) -> None:
        head: Row = {"date": datetime.date.today().isoformat(), "device": processor()}
        seeds = {row["seed"] for row in self.rows if isinstance(row["seed"], int)}
        head |= {"versions": public_versions(), "seeds": sorted(seeds)}
        result = head | self.shared | {"rows": self.rows}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, json.dumps(result, indent=1) + "\n")
