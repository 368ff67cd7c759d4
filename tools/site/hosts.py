"""Where a notebook can be run without installing: links, once the project's address is known.

Links in words, not badges: their pictures would be asked of another host.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import quote, urlsplit

KEYS = ("repository", "source")


def repository(pyproject: Path) -> str:
    """`OWNER/NAME` on GitHub of `[project.urls]`, "" where no address stands there.

    Raises ValueError for an address of another kind.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    urls = {key.lower(): url for key, url in project.get("urls", {}).items()}
    url = next((urls[key] for key in KEYS if key in urls), "")
    if not url:
        return ""
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git")
    if parts.hostname != "github.com" or path.count("/") != 1:
        raise ValueError(f"[project.urls]: https://github.com/OWNER/NAME is needed, got {url!r}")
    return path


def run_elsewhere(place: str, notebook: str) -> str:
    """The links for a notebook and what Colab needs in a first cell; "" without a place."""
    if not place:
        return ""
    file = f"notebooks/{notebook}"
    colab = f"https://colab.research.google.com/github/{place}/blob/main/{file}"
    binder = f"https://mybinder.org/v2/gh/{place}/main?labpath={quote(file, safe='')}"
    install = f"%pip install 'eqprop_lab[lab] @ git+https://github.com/{place}'"
    return (
        f"Run it: [Colab]({colab}) · [Binder]({binder}). On Colab this comes first, in a cell of "
        f"its own:\n\n```\n{install}\n```"
    )
