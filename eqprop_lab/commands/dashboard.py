"""`python -m eqprop_lab dashboard`: train and watch in the browser; on this machine only.

Every page has a process of its own and a folder of its own for its runs (FOLDER/dashboard/VISIT).
The notebook behind the page, its files and its kernels are not served, no code can be sent, and
nothing is loaded from other hosts. How to use it, and what may go wrong, stands in the tab Help.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from eqprop_lab.commands.arguments import make_parser, refuse

HOST = "127.0.0.1"
THEMES = ("dark", "light")
IDLE_SECONDS = 600
"""A process that no page has been connected to for so long is ended."""

PORT = 8866
# Voila answers to any host name, and a page elsewhere could reach this one by a name of its own: an
# empty text is what the command line has for False. And it refuses the good-bye of a page that is
# left, which has no token to show; the only requests that change anything name a process by its id,
# which only its own page knows.
_SERVER = ("allow_remote_access=", "disable_check_xsrf=yes")
_NEEDS = "the dashboard needs voila: pip install 'eqprop_lab[lab,dashboard]'"


def arguments(port: int, theme: str, browser: bool, app: Path | None = None) -> list[str]:
    """What Voila is called with. app: another notebook than the dashboard's."""
    app = _assets() / "dashboard.ipynb" if app is None else app
    options = {
        "Voila.ip": HOST,
        "Voila.port": str(port),
        "Voila.root_dir": str(app.parent),
        "VoilaConfiguration.template": "eqprop",
        "VoilaConfiguration.theme": theme,
        "VoilaConfiguration.allow_template_override": "NO",
        "VoilaConfiguration.allow_theme_override": "NO",
        "VoilaConfiguration.strip_sources": "True",
        "VoilaConfiguration.show_tracebacks": "False",
        "VoilaConfiguration.file_allowlist": "nothing",
        "MappingKernelManager.cull_idle_timeout": str(IDLE_SECONDS),
        "MappingKernelManager.cull_interval": str(IDLE_SECONDS // 10),
        "MappingKernelManager.cull_connected": "False",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    flags += [f"--Voila.tornado_settings={setting}" for setting in _SERVER]
    return [str(app), *flags, *([] if browser else ["--no-browser"])]


def environment(runs: str | Path) -> dict[str, str]:
    """What its kernels and its templates are found by."""
    before = os.environ.get("JUPYTER_PATH")
    path = os.pathsep.join([str(_assets() / "share"), *([before] if before else [])])
    return {
        "JUPYTER_PATH": path,
        "EQPROP_DASHBOARD_RUNS": str((Path(runs) / "dashboard").absolute()),
    }


def free_port() -> int:
    """8866, or another one where that is taken."""
    for port in (PORT, 0):
        with socket.socket() as tried:
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            return int(tried.getsockname()[1])
    raise OSError(f"no port of {HOST} is free")


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl+C; 2 for a wrong call, or without Voila."""
    parser = make_parser("dashboard", __doc__, "--runs")
    parser.add_argument("--port", type=int, help=f"({PORT}, or a free one)")
    parser.add_argument("--theme", choices=THEMES, default="dark", help="of the page (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    options = parser.parse_args(argv)
    if options.port is not None and not 1 <= options.port <= 65535:
        parser.error(f"--port must be from 1 to 65535, got {options.port}")
    if importlib.util.find_spec("voila") is None:
        return refuse(_NEEDS)
    port = free_port() if options.port is None else options.port
    os.environ |= environment(options.runs)
    from voila.app import Voila

    print(f"dashboard: http://{HOST}:{port}/ (Ctrl+C ends it)", flush=True)
    Voila.launch_instance(argv=arguments(port, options.theme, not options.no_browser))
    return 0


def _assets() -> Path:
    return Path(str(resources.files("eqprop_lab"))) / "assets/dashboard"
