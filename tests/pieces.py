"""The tests on all cores: pieces go to workers, the longest first, and a table says where the time
went.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Generator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# In this order, before all other files: what comes last should be short, so that no worker waits
# long for the other. The table at the end of a run says which pieces belong here.
LONGEST = (
    "tests/browser",
    "tests/regression/test_series.py",
    "tests/regression/test_mutations.py",
    "tests/test_readme.py",
    "tests/notebook/test_blitting.py",
    "tests/instruments/test_validity.py",
    "tests/regression/test_kernels.py",
    "tests/notebook/test_cockpit.py",
    "tests/regression/test_plain_tools.py",
    "tests/equilibrium/test_self_report.py",
    "tests/models/test_doors.py",
    "tests/equilibrium/test_true_sigma.py",
    "tests/equilibrium/test_layered_gradients.py",
    "tests/notebook/test_freeing.py",
    "tests/training/test_checkpoint.py",
    "tests/test_argument_kinds.py",
    "tests/training/test_precision.py",
    "tests/experiments/test_recipes.py",
)
ROWS = 25
# Cases of one parametrised test that are traced for coverage. Tracing costs half of the run's CPU
# time again where Python has no sys.monitoring, and further cases walk the same lines.
TRACED = 2


def piece(nodeid: str) -> str:
    """What one worker runs as a whole: the browser tests, which share a server, or a file, which
    shares fixtures.
    """
    path = nodeid.split("::")[0]
    return LONGEST[0] if path.startswith(LONGEST[0]) else path


class Pieces(LoadScopeScheduling):  # type: ignore[misc]
    """The scheduler of pytest-xdist for them. Its own groups are marks in the ids of tests, which
    pytest 9 ignores.
    """

    def _split_scope(self, nodeid: str) -> str:
        return piece(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Pieces:
    """Piece by piece, whatever --dist says."""
    return Pieces(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest pieces first: nobody waits for one of those at the end."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(piece(item.nodeid), len(first)))
    cases: Counter[str] = Counter()
    for item in items:
        test, parametrised, _ = item.nodeid.partition("[")
        cases[test] += 1
        if parametrised and cases[test] > TRACED:
            item.add_marker("no_cover")


COUNTED, CPU = pytest.StashKey[float](), "CPU seconds"


def cpu_seconds() -> float:
    """CPU time of this process and of those it has waited for (on Windows of this process)."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The clock starts before the set-up of a test."""
    item.stash[COUNTED] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a phase carries its CPU seconds, from a worker too."""
    report = yield
    before, item.stash[COUNTED] = item.stash[COUNTED], cpu_seconds()
    report.user_properties.append((CPU, item.stash[COUNTED] - before))
    return report


class Spent:
    """What a piece or a worker has spent."""

    def __init__(self) -> None:
        self.tests = 0
        self.seconds = self.cpu = self.end = 0.0

    def add(self, report: pytest.TestReport) -> None:
        """One more phase of a test."""
        self.tests += report.when == "setup"
        self.seconds += report.duration
        self.cpu += dict(report.user_properties).get(CPU, 0.0)
        self.end = max(self.end, report.stop)


class Table:
    """Where the time of a run went, by piece and by worker."""

    def __init__(self) -> None:
        self.pieces: dict[str, Spent] = defaultdict(Spent)
        self.workers: dict[str, Spent] = defaultdict(Spent)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The reports of all workers pass here."""
        self.pieces[piece(report.nodeid)].add(report)
        self.workers[getattr(report, "worker_id", "main")].add(report)

    def rows(self) -> list[str]:
        """The slowest pieces; then how long each worker had nothing left to do before the end."""
        by_time = sorted(self.pieces, key=lambda name: -self.pieces[name].seconds)
        end = max(spent.end for spent in self.workers.values())
        return [
            "seconds   CPU s  tests  piece",
            *(
                f"{spent.seconds:7.1f} {spent.cpu:7.1f} {spent.tests:6d}  {name}"
                for name, spent in ((name, self.pieces[name]) for name in by_time[:ROWS])
            ),
            *(
                f"{spent.seconds:7.1f} {spent.cpu:7.1f} {spent.tests:6d}  worker {name}, "
                f"done {end - spent.end:.1f} s before the last"
                for name, spent in sorted(self.workers.items())
            ),
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A single piece needs no table."""
        if len(self.pieces) > 1:
            terminalreporter.section("slowest pieces")
            terminalreporter.write_line("\n".join(self.rows()))


def pytest_configure(config: pytest.Config) -> None:
    """Workers send their reports to the process that prints."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(), "slowest-pieces")
