"""The dashboard as an application: its server, and a page of a visitor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from eqprop_lab.commands.dashboard import HOST, free_port
from tests.browser.live import LivePart
from tests.browser.server import START_SECONDS, stop

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE_MS = 90_000.0
EVENT_MS = 20_000.0

_KERNEL = "() => JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
# In Jupyter's oldest protocol a message is one JSON text.
_SEND = """([kernel, kind, content]) => new Promise(done => {
  const header = {msg_id: crypto.randomUUID(), msg_type: kind, username: '', session: 'outside',
                  date: new Date().toISOString(), version: '5.3'};
  const message = {header, parent_header: {}, metadata: {}, content, buffers: [], channel: 'shell'};
  const say = () => { window.eqpropSocket.send(JSON.stringify(message)); done(); };
  if (window.eqpropSocket) return say();
  window.eqpropHeard = [];
  window.eqpropSocket = new WebSocket(
    `ws://${location.host}/api/kernels/${kernel}/channels?session_id=outside`);
  window.eqpropSocket.onmessage = event => {
    const heard = JSON.parse(event.data);
    if (heard.channel === 'shell') window.eqpropHeard.push(heard.header.msg_type);
  };
  window.eqpropSocket.onopen = say;
})"""

_CONTRASTS = """() => {
  const rgb = text => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length < 4 ? [...found, 1] : found;
  };
  const light = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement)
      layers.push(rgb(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const faint = e => e.disabled || e.closest('[disabled], [aria-hidden=true], :disabled');
  const texts = [...document.querySelectorAll('body *')].filter(e =>
    !faint(e) && e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) &&
    ([...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) ||
     ['INPUT', 'SELECT', 'TEXTAREA'].includes(e.tagName)));
  return texts.map(e => {
    const back = ground(e), ink = over(rgb(getComputedStyle(e).color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    const text = (e.textContent || e.value || '').trim().slice(0, 40);
    return [(a + 0.05) / (b + 0.05), e.tagName + ': ' + text];
  });
}"""


# As the command does it, with another notebook in the place of the dashboard's.
_OTHER = """import os, sys; from pathlib import Path
from eqprop_lab.commands.dashboard import arguments, environment
port, theme, runs, app = sys.argv[1:]
os.environ |= environment(runs)
from voila.app import Voila
Voila.launch_instance(argv=arguments(int(port), theme, False, Path(app)))"""


class DashboardServer:
    """`python -m eqprop_lab dashboard` on a free port; `runs` is where it keeps the visits.

    app: another notebook to serve, in the same way.
    """

    def __init__(self, folder: Path, theme: str = "dark", app: Path | None = None) -> None:
        self.runs, self._log = folder / "runs", folder / "server.log"
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}/"
        self._command = [sys.executable, "-m", "eqprop_lab", "dashboard", "--no-browser"]
        self._command += ["--port", str(self.port), "--theme", theme, "--runs", str(self.runs)]
        if app is not None:
            values = [str(self.port), theme, str(self.runs), str(app)]
            self._command = [sys.executable, "-c", _OTHER, *values]

    def __enter__(self) -> DashboardServer:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._env()
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if "is running at" in self.log():
                return self
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(
            f"the dashboard did not start; the end of its log:\n{self.log()[-2000:]}"
        )

    def __exit__(self, *_: object) -> None:
        stop(self.process)

    def log(self) -> str:
        """What the server has said so far."""
        return self._log.read_text(errors="replace")

    def kernels(self) -> list[int]:
        """Processes of kernels below the server."""
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = found.stdout.splitlines()
        return [int(line.split()[0]) for line in lines if "ipykernel" in line]

    def status_of(self, path: str, method: str = "GET", **headers: str) -> int:
        """The status that a request for the path ends with, redirections followed."""
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def _env(self) -> dict[str, str]:
        return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class Visit:
    """One visitor's page, open until the dashboard is there."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1200, "height": 1600})
        self.page.set_default_timeout(EVENT_MS)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        began = time.monotonic()
        self.page.goto(url, timeout=PAGE_MS)
        self.page.locator(".eqprop-cockpit img.eqprop-picture").first.wait_for(timeout=PAGE_MS)
        self.seconds = time.monotonic() - began

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave as a reader does: the page says good-bye to its process."""
        self.page.goto("about:blank")
        self.page.close()

    def part(self) -> LivePart:
        """The cockpit of the tab that is open."""
        return LivePart(self.page, self.page.locator(".eqprop-cockpit:visible"))

    def foreign(self) -> list[str]:
        """Requests that left this machine."""
        own = (f"http://{HOST}:", f"ws://{HOST}:", "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]

    def faint(self, least: float = 4.5) -> list[tuple[float, str]]:
        """(contrast, text) of everything that is seen and can be used, below `least`."""
        return [(round(c, 2), text) for c, text in self.page.evaluate(_CONTRASTS) if c < least]

    def open_tab(self, title: str) -> None:
        """Click on a tab."""
        self.page.locator(f".lm-TabBar-tab:has-text('{title}')").click()

    def kernel(self) -> str:
        """The id of the process behind the page."""
        return str(self.page.evaluate(_KERNEL))

    def send(self, kind: str, content: dict[str, object]) -> None:
        """A message to the kernel of the page, past all widgets."""
        self.page.evaluate(_SEND, [self.kernel(), kind, content])

    def replies(self, wanted: str) -> list[str]:
        """Kinds of the messages that came on the shell, until the wanted one is there."""
        self.page.wait_for_function("kind => (window.eqpropHeard || []).includes(kind)", arg=wanted)
        return list(self.page.evaluate("() => window.eqpropHeard"))
