"""`Dashboard`: tabs for vision, language, their runs, and how to use them.

Dashboard()                        in a notebook; runs are kept in the folder `runs`
python -m eqprop_lab dashboard     the same as an application in the browser (`make dashboard`)
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import ipywidgets as widgets

from eqprop_lab.experiments.runs import RunStore
from eqprop_lab.notebook.dashboard.choices import language, vision
from eqprop_lab.notebook.dashboard.language_tab import LanguageTab
from eqprop_lab.notebook.dashboard.runs_panel import RunsPanel
from eqprop_lab.notebook.dashboard.tab import TrainingTab
from eqprop_lab.notebook.freeing import close_all, keep_while_shown
from eqprop_lab.notebook.live import emit_live

TITLES = ("Vision", "Language", "Runs", "Help")
USAGE = "assets/dashboard/USAGE.md"

# On a dark page the figures' grey and blue are lightened until both can be read.
_STYLE = (
    "<style>body[data-jp-theme-light=false] .eqprop-dashboard img.eqprop-picture"
    "{filter:brightness(1.4)}"
    ".eqprop-dashboard .lm-TabBar-tab{color:var(--jp-ui-font-color0)!important}"
    ".eqprop-dashboard .jupyter-button:focus-visible,.eqprop-dashboard select:focus-visible,"
    ".eqprop-dashboard input:focus-visible,.eqprop-dashboard .lm-TabBar-tab:focus-visible"
    "{outline:3px solid #E69F00;outline-offset:2px}</style>"
)


def usage_html() -> str:
    """The page on usage and troubleshooting, as HTML."""
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    text = (Path(str(resources.files("eqprop_lab"))) / USAGE).read_text(encoding="utf-8")
    return str(markdown2html_mistune(text))


class Dashboard:
    """Two trainings beside each other, with their curves, needs, texts and runs.

    Args: runs: the folder of the run store; made at the first Start.
    vision, language: the tabs, as cockpits; runs: the comparison; widget: all of it.
    """

    def __init__(self, runs: str | Path = "runs") -> None:
        store = RunStore(runs)
        self.vision = TrainingTab(vision(), store)
        self.language = LanguageTab(language(), store)
        self.runs = RunsPanel(store)
        help_page = widgets.HTML(usage_html()).add_class("eqprop-usage")
        pages = [self.vision.widget, self.language.widget, self.runs.widget, help_page]
        self._tabs = widgets.Tab(pages, titles=TITLES)
        self.widget = widgets.VBox([widgets.HTML(_STYLE), self._tabs])
        self.widget.add_class("eqprop-dashboard")
        for tab in (self.vision, self.language):
            tab._worker.observe(self._ended, names="status")

    @property
    def errors(self) -> list[Exception]:
        """Errors of the present runs of both tabs."""
        return [*self.vision.errors, *self.language.errors]

    @property
    def png(self) -> bytes:
        """The picture of the first tab."""
        return self.vision.png

    @property
    def alt(self) -> str:
        """The sentence of the first tab."""
        return f"A dashboard with the tabs {', '.join(TITLES)}. {self.vision.alt}"

    def close(self) -> None:
        """Stop what runs and take all of it off the page; the runs stay in their folder."""
        self.vision.close()
        self.language.close()
        close_all(self.widget)

    def _ended(self, change: dict[str, str]) -> None:
        if change["new"] in ("finished", "stopped", "failed"):
            self.runs.refresh()

    def _ipython_display_(self) -> None:
        """The widget; and the first picture with its sentence, for pages without widgets."""
        keep_while_shown(self)
        emit_live(self.widget, self.png, self.alt, self.vision.picture_width)
