"""A server, a browser and at most one open notebook for all tests of this folder.

They end with the folder's last test and not with the session: Playwright keeps an asyncio loop in
the thread, and tests elsewhere start their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import NoBrowser, launched
from tests.browser.cut import cut_to_explorers
from tests.browser.lab import OpenNotebook
from tests.browser.series import SERIES
from tests.browser.server import JupyterServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).resolve().parent
NO_BROWSER = pytest.StashKey[str]()


class Desk:
    """Keeps one notebook open and run: another one on top closes it and its kernel first."""

    def __init__(self, browser: Browser, server: JupyterServer) -> None:
        self._browser, self._server = browser, server
        self._open: OpenNotebook | None = None

    def executed(self, name: str) -> OpenNotebook:
        """The notebook notebooks/<name>.ipynb, cut to its explorers, opened and run once."""
        path = f"notebooks/{name}.ipynb"
        if not (self._server.root / path).is_file():
            raise FileNotFoundError(f"there is no {path}")
        if self._open is None or self._open.path != path:
            self.clear()
            self._open = OpenNotebook(self._browser, self._server.url, path)
            self._open.run_all()
        return self._open

    def clear(self) -> None:
        """Close what is open."""
        if self._open is not None:
            before, self._open = self._open, None
            before.close()


@pytest.fixture(scope="package")
def browser(pytestconfig: pytest.Config) -> Iterator[Browser]:
    try:
        manager = launched()
        started = manager.__enter__()
    except NoBrowser as reason:
        pytestconfig.stash[NO_BROWSER] = str(reason)
        pytest.skip(str(reason))
    try:
        yield started
    finally:
        manager.__exit__(None, None, None)


@pytest.fixture(scope="package")
def server(
    browser: Browser, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("jupyter"), root) as running:
        for name in SERIES:
            cut_to_explorers(running.notebooks / f"{name}.ipynb")
        yield running


@pytest.fixture(scope="package")
def desk(browser: Browser, server: JupyterServer) -> Iterator[Desk]:
    desk = Desk(browser, server)
    yield desk
    desk.clear()


@pytest.fixture
def notebook(request: pytest.FixtureRequest, desk: Desk) -> OpenNotebook:
    """The notebook of the series named by the test's parameter, executed."""
    return desk.executed(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one notebook follow one another, whatever file they are in: it is opened and run
    once.
    """
    places = [i for i, item in enumerate(items) if HERE in item.path.parents]
    mine = sorted((items[i] for i in places), key=_notebook_of)
    for i, item in zip(places, mine, strict=True):
        items[i] = item


def _notebook_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("notebook", "")) if callspec else ""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    reason = config.stash.get(NO_BROWSER, "")
    if reason:
        terminalreporter.write_line(f"browser tests skipped: {reason}")
