"""One notebook in one process: `python worker.py job.json`. Papermill executes, this file only carries the job.

A process of its own gives every kernel its own environment variables and lets the runner stop one notebook alone.
It imports nothing of the package, so that starting it costs no torch import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def write_json(path: str, content: Any) -> None:
    """Write JSON to a temporary file beside `path`, then replace: a reader never sees half a file."""
    part = f"{path}.part"
    Path(part).write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, path)


def execute(job: dict[str, Any]) -> str | None:
    """Run the notebook of a job through papermill; None when it ended, else one line that says what stopped it.

    Keys of a job: input, output, parameters, env, cwd, limit (seconds), hook, progress, result.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

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
    except TimeoutError as error:
        if deadline and time.monotonic() > deadline - 1:
            return f"time limit of {job['limit']:g} s reached"
        return f"no answer from the kernel: {error}"
    return None


def main(path: str) -> int:
    """Execute the job in a JSON file and write its result: {"error": text or None, "seconds": wall time}."""

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
        error = f"{type(problem).__name__}: {(str(problem).strip() or 'no message').splitlines()[0]}"
    except KeyboardInterrupt:
        return 130
    write_json(job["result"], {"error": error, "seconds": time.monotonic() - start})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
