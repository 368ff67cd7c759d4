"""The dashboard as an application: what visitors see, use and cannot reach."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.browser.dashboard_app import PAGE_MS, DashboardServer, Visit
from tests.notebook.test_any_page import contrast

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.kernel]


@pytest.fixture(scope="module")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardServer]:
    with DashboardServer(tmp_path_factory.mktemp("dashboard")) as running:
        yield running


@pytest.fixture(scope="module")
def visit(browser: Browser, app: DashboardServer) -> Iterator[Visit]:
    with Visit(browser, app.url) as page:
        yield page


def test_the_page_is_dark_readable_and_asks_no_other_host(visit: Visit) -> None:
    visit.page.locator(".eqprop-needs:visible", has_text="parameters; a training step").wait_for()
    for title in ("Language", "Runs", "Help", "Vision"):
        visit.open_tab(title)
        assert visit.faint() == [], title
    assert visit.page.locator("body[data-jp-theme-light=false]").count() == 1
    assert "visitors_dashboard" not in visit.page.content(), "the source is on the page"
    assert visit.foreign() == [] and visit.errors == [] and visit.requests


def test_a_picture_can_be_read_on_the_dark_page(visit: Visit) -> None:
    visit.open_tab("Vision")
    shot = visit.page.locator("img.eqprop-picture:visible").screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    ground = colours[counts.argmax()] / 255
    assert contrast(tuple(colours[colours.sum(1).argmax()] / 255), tuple(ground)) >= 4.5
    assert (pixels.min(1) > 200).mean() < 0.04, "white on a dark page"


def test_a_training_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    visit.open_tab("Help")
    page.locator(".lm-TabBar-tab.lm-mod-current").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.locator(".eqprop-cockpit:visible").wait_for()
    visit.part().press(2, "ArrowRight")
    visit.part().wait_for_alt("epochs 11,")
    for name, said in (("start", "Training for 11"), ("pause", "Paused."), ("pause", "")):
        page.locator(f".eqprop-{name}:visible").first.focus()
        page.keyboard.press("Enter")
        visit.part().wait_for_text("[role=status]", said)
    visit.part().wait_for_alt("Curves after 11 of 11 epochs: training accuracy", PAGE_MS)
    visit.open_tab("Runs")
    page.locator(".eqprop-runs", has_text="1 runs.").wait_for()


def test_two_visitors_do_not_see_each_other(
    browser: Browser, app: DashboardServer, visit: Visit
) -> None:
    assert len(list(app.runs.glob("dashboard/*"))) == 1
    with Visit(browser, app.url) as other:
        assert other.part().look().alt.startswith("Four empty panels")
        other.open_tab("Runs")
        assert "No run yet" in other.page.locator(".eqprop-runs").inner_text()
        assert other.kernel() != visit.kernel()
        kernels = app.kernels()
        assert len(kernels) == 2
    end = time.monotonic() + 20
    while len(app.kernels()) > 1 and time.monotonic() < end:
        time.sleep(0.2)
    assert len(app.kernels()) == 1, "the process of a closed page goes on"


@pytest.mark.parametrize(
    "path",
    [
        "api/kernels",
        "api/contents",
        "api/sessions",
        "api/terminals",
        "dashboard.ipynb",
        "files/dashboard.ipynb",
        "voila/files/dashboard.ipynb",
        "voila/files/USAGE.md",
        "voila/files/..%2f..%2fversion.py",
        "voila/render/dashboard.ipynb",
        "voila/tree",
    ],
)
def test_notebook_files_and_kernels_are_not_served(app: DashboardServer, path: str) -> None:
    assert app.status_of(path) in (403, 404)


def test_no_kernel_is_started_from_outside_and_no_other_name_is_answered(
    app: DashboardServer,
) -> None:
    assert app.status_of("api/kernels", "POST") in (403, 404, 405)
    assert app.status_of("", Host="elsewhere.example") == 403


def test_a_page_can_execute_no_code(visit: Visit, tmp_path: Path) -> None:
    wish = tmp_path / "written"
    code = f"open({str(wish)!r}, 'w')"
    visit.send("execute_request", {"code": code, "silent": False, "store_history": False})
    visit.send("kernel_info_request", {})
    replies = visit.replies("kernel_info_reply")
    assert "kernel_info_reply" in replies and "execute_reply" not in replies
    assert not wish.exists()
