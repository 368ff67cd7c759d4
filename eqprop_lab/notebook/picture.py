"""Shared by explorers and cockpit: `<img alt>` in a widget, errors as alerts, a PNG for static pages."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

import ipywidgets as widgets

from eqprop_lab.notebook.output import emit
from eqprop_lab.notebook.style import fit_png

STORED_BYTES = 48 * 1024
"""The copy a notebook stores beside the live widget: 256 colours are enough for a page that cannot run it."""

# On a live page the widget shows the sentence itself; the copy for pages without JavaScript then steps back.
_STYLE = (
    "<style>.jp-OutputArea:has(.eqprop-live) .eqprop-static,"
    ".cell_container:has(.eqprop-live) .eqprop-static{display:none}</style>"
)
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[\\/][\w.+@~ \-]*[\w.+@~\-])+[\\/]([\w.+@~\-]+)")


def safe_message(error: BaseException) -> str:
    """`TypeName: message` of an exception, folders of absolute paths left out; plain text, not escaped."""
    text = _PATH.sub(r"\1", str(error).strip()) or "no message"
    return f"{type(error).__name__}: {text}"


def title_html(title: str) -> str:
    """Title line of a live picture; carries the style sheet that exists only while the widget lives."""
    return f"{_STYLE}<strong>{html.escape(title)}</strong>"


def image_html(png: bytes, alt: str, width: float) -> str:
    """`<img alt>` of `width` CSS pixels with its sentence below."""
    data, text = base64.b64encode(png).decode(), html.escape(alt, quote=True)
    return (
        f'<figure style="margin:0;line-height:1.4"><img class="eqprop-picture" alt="{text}" '
        f'src="data:image/png;base64,{data}" style="width:{width:.0f}px;max-width:100%;height:auto">'
        # The sentence is the alt text already: a screen reader need not hear it twice.
        f'<figcaption aria-hidden="true">{text}</figcaption></figure>'
    )


def alert_html(message: str) -> str:
    """An error as an alert region; an empty message gives no region at all."""
    if not message:
        return ""
    return (
        '<div role="alert" class="eqprop-alert" style="border-left:4px solid #D55E00;padding:4px 8px;'
        f'background:#fff4ec;color:#1a1a1a;white-space:pre-wrap">{html.escape(message)}</div>'
    )


class LivePicture:
    """A widget with a picture: live where widgets run, PNG plus its sentence on every other page.

    Subclasses fill `png` (bytes), `alt` (one sentence) and `widget`, and set `picture_width` in CSS pixels.
    """

    png: bytes
    alt: str
    widget: widgets.VBox
    picture_width: float

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Widget view, PNG and sentence of the present state; the PNG's metadata carries the alt text."""
        view = "application/vnd.jupyter.widget-view+json"
        data = {
            view: self.widget._repr_mimebundle_()[view],
            "image/png": base64.b64encode(fit_png(self.png, STORED_BYTES)).decode(),
            "text/plain": self.alt,
        }
        return data, {"image/png": {"alt": self.alt, "width": round(self.picture_width)}}

    def _ipython_display_(self) -> None:
        """Two outputs: the bundle, and the sentence for pages that show the PNG without its alt text."""
        data, metadata = self._repr_mimebundle_()
        emit(data, metadata=metadata)
        sentence = f'<p class="eqprop-static"><em>{html.escape(self.alt)}</em></p>'
        emit({"text/html": sentence, "text/plain": self.alt})
