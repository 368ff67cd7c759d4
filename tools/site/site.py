"""`python -m tools.site.site [NN ...] [--out FOLDER]`: the web edition; it asks no other host."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from eqprop_lab.commands.arguments import refuse
from eqprop_lab.course.masters import Master
from eqprop_lab.regression.plan import find_notebooks
from tools.site.pages import write_sources
from tools.site.vendor import MATHJAX, ROOT, VendorError, vendored


def main(argv: Sequence[str]) -> int:
    """Write sources and pages; Sphinx's exit status, 2 where MathJax is not to be had."""
    parser = argparse.ArgumentParser(prog="python -m tools.site.site", description=__doc__)
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="default: the series")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "site", metavar="FOLDER")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    try:
        mathjax = vendored(MATHJAX)
    except VendorError as error:
        return refuse(error)
    masters = [Master.read(path) for path in find_notebooks(arguments.notebooks, ROOT)]
    source, html = arguments.out / "source", arguments.out / "html"
    write_sources(ROOT, masters, mathjax, source)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-E"]
    done = subprocess.run([*command, str(source), str(html)])
    if done.returncode == 0:
        seconds = time.monotonic() - began
        print(f"{len(masters)} notebooks in {seconds:.0f} s: {html / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
