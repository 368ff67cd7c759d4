"""The web edition in a browser, opened from the disk: nothing is asked of another host."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eqprop_lab.course.masters import Master
from eqprop_lab.regression.plan import find_notebooks
from tools.site.pages import write_sources
from tools.site.vendor import MATHJAX, STORE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
SPHINX = all(importlib.util.find_spec(name) for name in ("sphinx", "myst_nb", "sphinx_book_theme"))
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not SPHINX, reason="the extra 'site' is not installed"),
]


def test_a_page_asks_no_host_and_shows_formulas_and_pictures(
    browser: Browser, tmp_path: Path
) -> None:
    mathjax = STORE / MATHJAX.folder
    if not mathjax.is_dir():
        pytest.skip(f"MathJax is not in {STORE}: make site fetches it")
    (path,) = find_notebooks(["03"], ROOT)
    write_sources(ROOT, [Master.read(path)], mathjax, tmp_path / "source")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-q", "source", "html"]
    subprocess.run(command, cwd=tmp_path, check=True)
    page = browser.new_page(color_scheme="dark", viewport={"width": 390, "height": 844})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "html" / "notebooks" / f"{path.stem}.html").as_uri())
    page.wait_for_function("document.querySelectorAll('mjx-container').length > 50", timeout=30_000)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.locator("article img").count() >= 6
    assert page.locator("article img:not([alt])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
    page.close()
