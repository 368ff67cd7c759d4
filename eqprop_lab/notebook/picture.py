"""What pages are told of a picture: `<img alt>`, title, alerts, a copy for static pages."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

from eqprop_lab.notebook.page import page_script
from eqprop_lab.notebook.style import stand_in

# On a live page the widget shows picture and sentence itself; the copy for other pages then steps
# back.
_STYLE = (
    "<style>.jp-OutputArea:has(.eqprop-live) .eqprop-static,"
    ".cell_container:has(.eqprop-live) .eqprop-static{display:none}</style>"
)
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[\\/][\w.+@~ \-]*[\w.+@~\-])+[\\/]([\w.+@~\-]+)")


def safe_message(error: BaseException) -> str:
    """`TypeName: message` of an exception, without folders of absolute paths; not escaped."""
    text = _PATH.sub(r"\1", str(error).strip()) or "no message"
    return f"{type(error).__name__}: {text}"


def title_html(title: str) -> str:
    """Title line of a live picture, with the style sheet that exists while the widget lives."""
    return f"{_STYLE}<strong>{html.escape(title)}</strong>{page_script()}"


def img_html(png: bytes, alt: str, width: float) -> str:
    """`<img alt>` of `width` CSS pixels, or of the page's width where that is less."""
    data = base64.b64encode(png).decode()
    return (
        f'<img class="eqprop-picture" alt="{html.escape(alt, quote=True)}" '
        f'src="data:image/png;base64,{data}" width="{width:.0f}" '
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
    """(data, metadata): `page` is HTML, which JupyterLab and nbconvert prefer; others take a PNG.

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
        '<div role="alert" class="eqprop-alert" style="border-left:4px solid #D55E00;'
        'padding:4px 8px;background:rgba(213,94,0,0.12);white-space:pre-wrap">'
        f"{html.escape(message)}</div>"
    )
