"""`python -m tools.site.slides [NN ...] [--out FOLDER]`: decks that ask no other host."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from nbconvert import SlidesExporter
from nbformat import NotebookNode

from eqprop_lab.commands.arguments import refuse
from eqprop_lab.course.masters import Master
from eqprop_lab.files import replace_text
from eqprop_lab.regression.plan import find_notebooks
from tools.site.deck import deck
from tools.site.vendor import MATHJAX, REVEAL, ROOT, VendorError, vendored

TEMPLATES = Path(__file__).with_name("templates")


def exported(nb: NotebookNode, title: str) -> str:
    """The page of a deck; its scripts are looked for in `reveal` and `mathjax` beside it."""
    exporter = SlidesExporter(
        template_name="eqprop",
        extra_template_basedirs=[str(TEMPLATES)],
        reveal_url_prefix="reveal",
        reveal_theme="white",
        exclude_input=True,
    )
    return str(exporter.from_notebook_node(nb, {"metadata": {"name": title}})[0])


def write_decks(masters: Sequence[Master], reveal: Path, mathjax: Path, out: Path) -> None:
    """Write a page for each notebook, and the scripts, into a folder."""
    for name, source in (("reveal", reveal), ("mathjax", mathjax)):
        shutil.copytree(source, out / name, dirs_exist_ok=True)
    for master in masters:
        replace_text(out / f"{master.path.stem}.html", exported(deck(master.nb), master.path.stem))


def main(argv: Sequence[str]) -> int:
    """Write the decks; 2 where the scripts are not to be had."""
    parser = argparse.ArgumentParser(prog="python -m tools.site.slides", description=__doc__)
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="default: the series")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "slides", metavar="FOLDER")
    arguments = parser.parse_args(argv)
    try:
        reveal, mathjax = vendored(REVEAL), vendored(MATHJAX)
    except VendorError as error:
        return refuse(error)
    masters = [Master.read(path) for path in find_notebooks(arguments.notebooks, ROOT)]
    write_decks(masters, reveal, mathjax, arguments.out)
    print(f"{len(masters)} decks in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
