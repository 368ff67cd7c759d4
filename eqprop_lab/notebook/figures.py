"""`show`: a figure with alternative text and caption; as files when the runner asks."""

from __future__ import annotations

import hashlib
import html
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from matplotlib.figure import Figure

from eqprop_lab.files import replace_file
from eqprop_lab.notebook.output import emit
from eqprop_lab.notebook.picture import img_html, picture_bundle
from eqprop_lab.notebook.session import current_session, has_session
from eqprop_lab.notebook.style import encode_png, fit_png, style_context

FIGURES_DIR = "EQPROP_FIGURES_DIR"
"""Environment variable: folder the figure files go to; unset means display only."""

NOTEBOOK = "EQPROP_NOTEBOOK"
"""Environment variable: stem of the running notebook."""

_NAME = re.compile(r"nb\d{2}_[a-z0-9]+(_[a-z0-9]+)*")
_DPI = 200
_LOCK_SECONDS = 30.0


def show(
    fig: Figure, name: str, alt: str, caption: str, parameters: dict[str, Any] | None = None
) -> None:
    """Display a figure as a PNG of twice the page's resolution with its caption and description.

    Args:
        fig: any matplotlib figure; one of pyplot is closed, so that it does not appear twice.
        name: `nbNN_slug`, for example "nb03_beta".
        alt: what is seen, at least 20 characters; stands for the picture where it cannot be seen.
        caption: printed below the picture; Markdown.
        parameters: what the figure depends on, for the index; default: seed and profile of the
            session.
    Raises:
        TypeError, ValueError: naming the argument. OSError: the figures folder cannot be written.
    """
    if not isinstance(fig, Figure):
        raise TypeError(f"fig is a {type(fig).__name__}; a matplotlib Figure is needed")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f'name = {name!r}: a figure is called nbNN_slug in lower case, for example "nb03_beta"'
        )
    alt = require_alt(alt)
    caption = _require_text("caption", caption)
    png = fit_png(encode_png(fig, _DPI))
    folder = os.environ.get(FIGURES_DIR)
    if folder:
        _write(Path(folder), name, png, _svg(fig, name, alt), _entry(alt, caption, parameters))
    width = round(fig.get_size_inches()[0] * _DPI / 2)
    _close_in_pyplot(fig)
    emit(*picture_bundle(png, alt, width, img_html(png, alt, width)))
    # Who sees the picture may want its description too.
    details = f"<details><summary>Description of the picture</summary>{html.escape(alt)}</details>"
    emit({"text/markdown": f"**Figure.** {caption}\n\n{details}", "text/plain": caption})


def require_alt(alt: str) -> str:
    """A usable alternative text, else ValueError: 20 characters or more, and about what is seen."""
    text = " ".join(_require_text("alt", alt).split())
    if len(text) < 20:
        raise ValueError(
            f"alt = {text!r} has {len(text)} characters; say in 20 or more what is seen"
        )
    if re.match(r"(an? |the )?(plot|figure|image|picture|graph|chart)\b", text, re.IGNORECASE):
        raise ValueError(f"alt = {text!r}: say what is seen, not that it is a picture")
    return text


def _require_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} = {value!r}: a non-empty text is needed")
    return value.strip()


def _close_in_pyplot(fig: Figure) -> None:
    """pyplot is looked up, not imported: an unused pyplot costs every kernel start."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(fig)


def _svg(fig: Figure, name: str, alt: str) -> bytes:
    """The same figure gives the same bytes: fixed hash salt (style file) and no date."""
    buffer = io.BytesIO()
    with style_context():
        metadata = {"Date": None, "Creator": None, "Title": name, "Description": alt}
        fig.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()


def _entry(alt: str, caption: str, parameters: dict[str, Any] | None) -> dict[str, Any]:
    if parameters is None and has_session():
        parameters = {"seed": current_session().seed, "profile": current_session().profile}
    entry = {
        "alt": alt,
        "caption": caption,
        "notebook": os.environ.get(NOTEBOOK, ""),
        "parameters": parameters or {},
    }
    try:
        json.dumps(entry)
    except TypeError as error:
        raise TypeError(
            f"parameters = {parameters!r} of a figure: only numbers, texts, lists and dicts"
        ) from error
    return entry


def _write(folder: Path, name: str, png: bytes, svg: bytes, entry: dict[str, Any]) -> None:
    """Two files and one line of the index; two kernels may do this at the same time."""
    index = folder / "index.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "index.json.lock", timeout=_LOCK_SECONDS):
            entries = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
            _replace(folder / f"{name}.png", png)
            _replace(folder / f"{name}.svg", svg)
            sums = {"png": hashlib.sha256(png).hexdigest(), "svg": hashlib.sha256(svg).hexdigest()}
            entries[name] = entry | {"sha256": sums}
            text = json.dumps(entries, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
            _replace(index, text.encode())
    except Timeout as error:
        raise OSError(
            f"figure {name}: index.json stayed locked for {_LOCK_SECONDS:g} s; "
            "is another run writing to the same figures folder?"
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OSError(
            error.errno, f"figure {name}: cannot write to the figures folder ({reason})"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            "index.json of the figures folder is not valid JSON; delete it and run again"
        ) from error


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    # A figure can be drawn again: not worth waiting for the disk in the middle of a notebook.
    replace_file(path, lambda file: file.write(data), durable=False)
