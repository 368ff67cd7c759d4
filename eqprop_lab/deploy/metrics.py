"""What a server counts, as the text that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
PREFIX = "eqprop_lab"


class Metrics:
    """Counters of one server; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, float] = {}
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._relaxations: Counter[tuple[str, str]] = Counter()
        self.waiting = 0

    def request(self, path: str, status: int, seconds: float) -> None:
        """One that has been answered."""
        with self._lock:
            self._requests[path, status] += 1
            self._seconds[path] = self._seconds.get(path, 0.0) + seconds
            for bound in BUCKETS:
                self._buckets[path, bound] += seconds <= bound

    def relaxation(self, model: str, steps: int, converged: bool) -> None:
        """One that has ended."""
        with self._lock:
            self._relaxations[model, "relaxations"] += 1
            self._relaxations[model, "steps"] += steps
            self._relaxations[model, "unconverged"] += not converged

    def text(self) -> str:
        """All of them, in Prometheus' text format 0.0.4."""
        with self._lock:
            return "\n".join([*self._of_requests(), *self._of_models(), ""])

    def _of_requests(self) -> list[str]:
        name = f"{PREFIX}_requests_total"
        lines = [f"# HELP {name} Requests answered.", f"# TYPE {name} counter"]
        for (path, status), count in sorted(self._requests.items()):
            lines.append(f'{name}{{path="{path}",status="{status}"}} {count}')
        name = f"{PREFIX}_request_seconds"
        lines += [f"# HELP {name} From arrival to answer.", f"# TYPE {name} histogram"]
        for path, total in sorted(self._seconds.items()):
            count = sum(n for (other, _), n in self._requests.items() if other == path)
            for bound in BUCKETS:
                known = self._buckets[path, bound]
                lines.append(f'{name}_bucket{{path="{path}",le="{bound:g}"}} {known}')
            lines.append(f'{name}_bucket{{path="{path}",le="+Inf"}} {count}')
            lines.append(f'{name}_sum{{path="{path}"}} {total:.6f}')
            lines.append(f'{name}_count{{path="{path}"}} {count}')
        name = f"{PREFIX}_requests_waiting"
        kind = [f"# HELP {name} Requests in work or waiting.", f"# TYPE {name} gauge"]
        return [*lines, *kind, f"{name} {self.waiting}"]

    def _of_models(self) -> list[str]:
        said = {
            "relaxations": "Relaxations that ended.",
            "steps": "Steps that they took.",
            "unconverged": "Those that missed their tolerance.",
        }
        lines = []
        for what, text in said.items():
            name = f"{PREFIX}_{what}_total"
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            for (model, kind), count in sorted(self._relaxations.items()):
                if kind == what:
                    lines.append(f'{name}{{model="{_escaped(model)}"}} {count}')
        return lines


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
