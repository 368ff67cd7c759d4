"""Pictures as pages need them: `<img alt>` in widgets and outputs, errors as alerts, a copy for
static pages.
"""

from __future__ import annotations

import base64
import html
import re
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.freeing import close_all, keep_while_shown
from eqprop_lab.notebook.output import emit
from eqprop_lab.notebook.page import page_script
from eqprop_lab.notebook.style import fit_png, stand_in

STORED_BYTES = 48 * 1024
"""The copy a notebook stores beside the live widget: 256 colours are enough for a page that cannot run it."""

# On a live page the widget shows picture and sentence itself; the copy for other pages then steps
# back.
_STYLE = (
    "<style>.jp-OutputArea:has(.eqprop-live) .eqprop-static,"
    ".cell_container:has(.eqprop-live) .eqprop-static{display:none}</style>"
)
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[\\/][\w.+@~ \-]*[\w.+@~\-])+[\\/]([\w.+@~\-]+)")


def safe_message(error: BaseException) -> str:
    """`TypeName: message` of an exception, folders of absolute paths left out; plain text, not
    escaped.
    """
    text = _PATH.sub(r"\1", str(error).strip()) or "no message"
    return f"{type(error).__name__}: {text}"


def title_html(title: str) -> str:
    """Title line of a live picture; carries the style sheet that exists only while the widget
    lives.
    """
    return f"{_STYLE}<strong>{html.escape(title)}</strong>{page_script()}"


def img_html(png: bytes, alt: str, width: float) -> str:
    """`<img alt>` of `width` CSS pixels, or of the page's width where that is less."""
    data, text = base64.b64encode(png).decode(), html.escape(alt, quote=True)
    return (
        f'<img class="eqprop-picture" alt="{text}" src="data:image/png;base64,{data}" width="{width:.0f}" '
        f'style="width:{width:.0f}px;max-width:100%;height:auto">'
    )


def image_html(png: bytes, alt: str, width: float) -> str:
    """`<img alt>` of `width` CSS pixels with its sentence below."""
    # The sentence is the alt text already: a screen reader need not hear it twice.
    sentence = f'<figcaption aria-hidden="true">{html.escape(alt)}</figcaption>'
    return (
        f'<figure style="margin:0;line-height:1.4">{img_html(png, alt, width)}{sentence}</figure>'
    )


def picture_bundle(
    png: bytes, alt: str, width: float, page: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(data, metadata) of a picture: `page` is its HTML, which JupyterLab and nbconvert prefer; the
    rest take the PNG.

    Both leave the alternative text of a PNG out. The PNG has four pixels for five CSS pixels: a
    notebook holds the picture twice, and has to stay small.
    """
    small = stand_in(png, 0.8 * width)
    data = {"text/html": page, "image/png": base64.b64encode(small).decode(), "text/plain": alt}
    return data, {"image/png": {"alt": alt, "width": round(width)}}


def alert_html(message: str) -> str:
    """An error as an alert region; an empty message gives no region at all."""
    if not message:
        return ""
    return (
        '<div role="alert" class="eqprop-alert" style="border-left:4px solid #D55E00;padding:4px 8px;'
        f'background:rgba(213,94,0,0.12);white-space:pre-wrap">{html.escape(message)}</div>'
    )


class LivePicture:
    """A widget with a picture: live where widgets run, PNG plus its sentence on every other page.

    Subclasses fill `png` (bytes), `alt` (one sentence) and `widget`, and set `picture_width` in CSS
    pixels.
    """

    png: bytes
    alt: str
    widget: widgets.VBox
    picture_width: float

    def close(self) -> None:
        """Take it off the page and free what works for it; picture, sentence and values stay."""
        close_all(self.widget)

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Widget view, PNG and sentence of the present state; the PNG's metadata carries the alt
        text.
        """
        view = "application/vnd.jupyter.widget-view+json"
        data = {
            view: self.widget._repr_mimebundle_()[view],
            "image/png": base64.b64encode(fit_png(self.png, STORED_BYTES)).decode(),
            "text/plain": self.alt,
        }
        return data, {"image/png": {"alt": self.alt, "width": round(self.picture_width)}}

    def _ipython_display_(self) -> None:
        """Two outputs: the widget, and its picture with the sentence for every page that shows no
        widgets.

        In one output the view of the widget would hide the picture on a page that knows views and
        has no state of them.
        """
        keep_while_shown(self)
        view = "application/vnd.jupyter.widget-view+json"
        emit({view: self.widget._repr_mimebundle_()[view]})
        png = fit_png(self.png, STORED_BYTES)
        page = f'<div class="eqprop-static">{image_html(png, self.alt, self.picture_width)}</div>'
        emit(*picture_bundle(png, self.alt, self.picture_width, page))
