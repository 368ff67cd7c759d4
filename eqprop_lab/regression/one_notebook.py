"""One notebook in one process: `python one_notebook.py job.json`. Papermill executes it.

A process of its own gives every kernel its own environment variables and lets the runner stop one
notebook alone. It ends with its runner, also where that is killed: `follow` waits for the end of
the pipe that both share. It imports nothing of the package, so that starting it costs no torch
import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

GRACE_SECONDS = 10.0


def write_json(path: str, content: Any) -> None:
    """Write JSON beside `path`, then replace it: a reader never sees half a file."""
    part = f"{path}.part"
    Path(part).write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, path)


class OutputCount:
    """Bytes of output of every code cell; the notebook is stopped where they pass `limit` together.

    Without it a cell that prints without end fills the memory of worker and runner. What a cell
    clears does not count.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cells: dict[int, int] = {}
        self.error = ""

    def add(self, message: dict[str, Any], cell: int, number: int | None) -> None:
        """Count a message of the kernel about a cell (its index); stop the worker at the limit."""
        kind = message["msg_type"]
        content = message["content"]
        if kind == "clear_output":
            self.cells[cell] = 0
        elif kind == "stream":
            self.cells[cell] = self.cells.get(cell, 0) + len(content["text"])
        elif kind in ("display_data", "execute_result", "error"):
            parts = [
                *content.get("data", {}).values(),
                *content.get("traceback", []),
                content.get("evalue", ""),
            ]
            self.cells[cell] = self.cells.get(cell, 0) + sum(
                len(p) for p in parts if isinstance(p, str)
            )
        if sum(self.cells.values()) > self.limit and not self.error:
            self.error = (
                f"cell [{number}]: more than {self.limit / 1e6:g} MB of output, stopped: "
                "print less, or to a file"
            )
            os.kill(os.getpid(), signal.SIGTERM)

    def client(self) -> type:
        """papermill's client with every message counted, and nothing kept beyond the limit."""
        from papermill.clientwrap import PapermillNotebookClient

        count = self

        class Client(PapermillNotebookClient):
            def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
                count.add(msg, cell_index, cell.get("execution_count"))
                return None if count.error else super().process_message(msg, cell, cell_index)

        return Client


def execute(job: dict[str, Any]) -> str | None:
    """Run the notebook of a job through papermill; None, or one line that says what stopped it.

    Keys of a job: input, output, parameters, env, cwd, limit (seconds), output_limit (bytes), hook,
    progress, result.
    """
    import papermill
    from papermill import engines
    from papermill.exceptions import PapermillExecutionError

    outputs = OutputCount(job["output_limit"])
    engines.PapermillNotebookClient = outputs.client()
    os.environ.update(job["env"])
    cells = 0
    deadline = 0.0

    def started(**_: Any) -> None:
        nonlocal deadline
        deadline = time.monotonic() + job["limit"]

    def count(**_: Any) -> None:
        nonlocal cells
        cells += 1
        write_json(job["progress"], cells)

    hook = f"__import__('runpy').run_path({job['hook']!r}, run_name='__main__')"
    try:
        papermill.execute_notebook(
            job["input"].replace("{", "{{").replace("}", "}}"),
            job["output"].replace("{", "{{").replace("}", "}}"),
            parameters=job["parameters"],
            cwd=job["cwd"],
            progress_bar=False,
            timeout_func=lambda cell: max(1, int(deadline - time.monotonic())),
            extra_arguments=[f"--IPKernelApp.exec_lines={hook}"],
            on_notebook_start=started,
            on_cell_complete=count,
        )
    except PapermillExecutionError as error:
        return f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}"
    except KeyboardInterrupt:
        if not outputs.error:
            raise
        return outputs.error
    except TimeoutError as error:
        if deadline and time.monotonic() > deadline - 1:
            return f"time limit of {job['limit']:g} s reached"
        return f"no answer from the kernel: {error}"
    return None


def main(path: str) -> int:
    """Execute the job in a JSON file, write {"error": text or None, "seconds": wall time}."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    start = time.monotonic()
    try:
        error = execute(job)
    except OSError as problem:
        error = f"writing the results failed: {problem.strerror or problem}"
    except Exception as problem:
        # The runner shows this line in its report and in its table, with the log beside it.
        message = str(problem).strip() or "no message"
        error = f"{type(problem).__name__}: {message.splitlines()[0]}"
    except KeyboardInterrupt:
        return 130
    write_json(job["result"], {"error": error, "seconds": time.monotonic() - start})
    return 0


def follow() -> None:
    """Stop this process when its input ends, which is when its runner does."""

    def wait() -> None:
        # Not through sys.stdin, whose lock the end of the interpreter would wait for.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        # A main thread that does not listen: the kernel ends by itself when its parent is gone.
        time.sleep(GRACE_SECONDS)
        os._exit(130)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    follow()
    sys.exit(main(sys.argv[1]))
