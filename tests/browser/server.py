"""One JupyterLab server on a free local port, with settings, history and files of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 60.0


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop; one that has not in 20 s is killed."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class JupyterServer:
    """Serves `folder/root`, which holds a copy of the series in notebooks/: Lab saves what it
    opens.

    Use as a context manager; `url` is http://127.0.0.1:<port>. Raises RuntimeError with the end of
    the server's log when it does not start.
    """

    def __init__(self, folder: Path, project: Path) -> None:
        self.root = folder / "root"
        self.notebooks = self.root / "notebooks"
        self.url = ""
        self._folder, self._project, self._log = folder, project, folder / "server.log"
        shutil.copytree(project / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".*"))

    def __enter__(self) -> JupyterServer:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.url = self._wait_until_up()
        except BaseException:
            stop(self._process)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def _command(self) -> list[str]:
        options = {
            "IdentityProvider.token": "",
            "LabApp.expose_app_in_browser": "True",
            "LabApp.extension_manager": "readonly",
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": "0",
            "ServerApp.root_dir": str(self.root),
            "ServerApp.terminals_enabled": "False",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
        if getattr(os, "geteuid", lambda: 1)() == 0:
            command.append("--allow-root")
        return command + [f"--{name}={value}" for name, value in options.items()]

    def _environment(self) -> dict[str, str]:
        own = {
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        return os.environ | {
            **{name: str(self._folder / place) for name, place in own.items()},
            # As `make lab` does: the project's settings and the way it saves are part of what is
            # tested.
            "JUPYTER_CONFIG_PATH": str(self._project / "jupyter"),
            "EQPROP_RESULTS_DIR": str(self._project / "data" / "results"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _wait_until_up(self) -> str:
        """The server writes its address into the runtime folder once it listens."""
        end = time.monotonic() + START_SECONDS
        note = self._folder / "runtime" / f"jpserver-{self._process.pid}.json"
        while time.monotonic() < end and self._process.poll() is None:
            if note.is_file() and note.read_text().rstrip().endswith("}"):
                return f"http://127.0.0.1:{json.loads(note.read_text())['port']}"
            time.sleep(0.1)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(
            f"JupyterLab did not start within {START_SECONDS:g} s; the end of its log:\n{tail}"
        )
