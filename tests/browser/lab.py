"""A notebook in JupyterLab as its reader has it: opened, run by the menu, its explorers moved by
keyboard.

What is done goes through the page; what came of it is read from Lab's model of the notebook, which
knows the cells that are scrolled away as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.browser.live import LivePart

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EVENT_MS = 10_000.0
OPEN_MS = 60_000.0
RUN_MS = 120_000.0
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

_PANEL = (
    "const panel = [...jupyterapp.shell.widgets('main')]"
    ".find(w => w.sessionContext && w.content.model);"
)
_READY = f"""() => {{
  if (!window.jupyterapp) return false;
  {_PANEL}
  const kernel = panel && panel.sessionContext.session && panel.sessionContext.session.kernel;
  return kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}}"""
_LISTEN = f"""() => {{
  {_PANEL}
  window.eqpropReplies = [];
  panel.sessionContext.session.kernel.anyMessage.connect((_, {{msg, direction}}) => {{
    if (direction === 'recv' && msg.header.msg_type === 'execute_reply')
      eqpropReplies.push(msg.content.status);
  }});
}}"""
_DONE = "wanted => eqpropReplies.length >= wanted || eqpropReplies.some(status => status !== 'ok')"
_CELLS = f"() => {{ {_PANEL} return panel.content.model.toJSON().cells; }}"
_SAVED = f"() => {{ {_PANEL} return !panel.context.model.dirty; }}"
_SCROLL = f"async index => {{ {_PANEL} await panel.content.scrollToItem(index); }}"


@dataclass(frozen=True)
class Run:
    """What Run All left: replies of the kernel, error outputs as `name: value`, the indicator's
    last status.
    """

    replies: list[str]
    errors: list[str]
    status: str


class OpenNotebook:
    """One notebook in a page of its own, with a kernel of its own; `close` ends both.

    Args: `url` of the server, `path` of the notebook below its root. The page is ready when the
    kernel is.
    """

    def __init__(self, browser: Browser, url: str, path: str) -> None:
        self.path = path
        self.page: Page = browser.new_page(viewport={"width": 1400, "height": 1100})
        self.page.set_default_timeout(EVENT_MS)
        try:
            self.page.goto(f"{url}/lab/tree/{path}?reset", timeout=OPEN_MS)
            self.page.wait_for_function(_READY, timeout=OPEN_MS)
            self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        except BaseException as error:
            # A dialog that waits for an answer is the usual reason.
            error.add_note(f"{path} did not open; dialogs on the page: {self.dialogs() or 'none'}")
            self.page.close()
            raise
        self.dialogs_when_opened = self.dialogs()
        self.run: Run | None = None

    def close(self) -> None:
        """Shut the kernel down and close the page; changes that were not saved are lost."""
        try:
            self.page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")
        finally:
            self.page.close()

    def dialogs(self) -> list[str]:
        """Texts of the dialogs on the page."""
        return self.page.locator(".jp-Dialog").all_inner_texts()

    def cells(self) -> list[dict[str, Any]]:
        """The cells as they would be saved now."""
        return list(self.page.evaluate(_CELLS))

    def run_all(self) -> Run:
        """Run > Run All Cells, until the last reply of the kernel or the first error, and until the
        page is idle.
        """
        wanted = sum(
            cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())
            for cell in self.cells()
        )
        self.page.evaluate(_LISTEN)
        self.page.click("li.lm-MenuBar-item:has-text('Run')")
        self.page.click("li.lm-Menu-item:has-text('Run All Cells')")
        self.page.wait_for_function(_DONE, arg=wanted, timeout=RUN_MS)
        indicator = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        indicator.wait_for(timeout=EVENT_MS)
        errors = [
            f"{output['ename']}: {output['evalue']}"
            for cell in self.cells()
            for output in cell.get("outputs", [])
            if output["output_type"] == "error"
        ]
        replies = self.page.evaluate("() => eqpropReplies")
        self.run = Run(replies, errors, indicator.get_attribute("data-status") or "")
        return self.run

    def save(self) -> None:
        """File > Save Notebook, until Lab says that it is saved."""
        self.page.click("li.lm-MenuBar-item:has-text('File')")
        self.page.locator("li.lm-Menu-item[data-command='docmanager:save']").click()
        self.page.wait_for_function(_SAVED)

    def toasts(self) -> list[str]:
        """Texts of the notes that Lab lays over the page."""
        return self.page.locator(".Toastify__toast").all_inner_texts()

    def type_into_first_code_cell(self, text: str) -> None:
        """A line of its own at the end of the first code cell."""
        editor = self.page.locator(".jp-CodeCell .cm-content").first
        editor.click()
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type("\n" + text)

    def use_theme(self, name: str) -> None:
        """Settings > Theme."""
        self.page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", name
        )
        self.page.locator(f"body[data-jp-theme-name='{name}']").wait_for(state="attached")

    def screens(self, step: int = 4) -> Iterator[bytes]:
        """PNGs of the page with every `step`-th cell scrolled to."""
        for index in range(0, len(self.cells()), step):
            self.page.evaluate(_SCROLL, index)
            yield self.page.locator(".jp-Notebook").first.screenshot()

    def live(self) -> list[LivePart]:
        """Explorers and cockpits in the order of the notebook."""
        showing = [
            index
            for index, cell in enumerate(self.cells())
            if any(WIDGET_VIEW in output.get("data", {}) for output in cell.get("outputs", []))
        ]
        return [part for index in showing for part in self._live_in(index)]

    def _live_in(self, index: int) -> list[LivePart]:
        self.page.evaluate(_SCROLL, index)
        cell = self.page.locator(f".jp-Cell[data-windowed-list-index='{index}']")
        # What lies behind the tab that is shown waits for its turn.
        found = cell.locator(".eqprop-live:visible")
        found.first.locator("img.eqprop-picture").wait_for()
        return [LivePart(self.page, found.nth(i)) for i in range(found.count())]

    def alerts(self) -> list[str]:
        """Texts of all that has role="alert" and is seen, in the notebook or over it."""
        self.live()
        return self.page.locator("[role=alert]:visible").all_inner_texts()
