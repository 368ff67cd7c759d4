"""Where the browser of the browser tests comes from, and why there is none."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VARIABLE = "EQPROP_CHROMIUM"
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLACES = (
    "/snap/bin/chromium",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)


class NoBrowser(RuntimeError):
    """No browser can be driven here; the message says what is missing."""


def find_chromium() -> Path:
    """The program named by EQPROP_CHROMIUM, else the first one installed.

    Raises NoBrowser when nothing is installed, FileNotFoundError when the variable names no file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(
                f"{VARIABLE} = {named!r} is no file; name the Chromium program or unset it"
            )
        return Path(named)
    for place in (*map(shutil.which, COMMANDS), *PLACES):
        if place and Path(place).is_file():
            return Path(place)
    raise NoBrowser(
        f"no Chromium here: install the package chromium, or set {VARIABLE} to the program"
    )


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium. Raises NoBrowser where Playwright or Chromium is missing.

    Until the context ends an asyncio loop lives in this thread: code that starts one of its own
    must wait.
    """
    if importlib.util.find_spec("playwright") is None:
        raise NoBrowser(
            "playwright is not installed: pip install playwright (part of the extra 'test')"
        )
    from playwright.sync_api import sync_playwright

    program = find_chromium()
    with sync_playwright() as playwright:
        # Containers give /dev/shm 64 MB, and Chromium dies when that is full.
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"],
        )
        try:
            yield browser
        finally:
            browser.close()
