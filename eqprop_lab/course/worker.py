"""`python -m eqprop_lab.course.worker MB`: a kernel whose cells come line by line, as JSON.

It stands between the grader and a submission, in the same cell (see `sandbox`): a line on its
input is the source of a notebook cell, a line on its output what became of it. nbclient executes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

OUTPUT_LIMIT, FILE_LIMIT, TEXT = 32 * 2**20, 64 * 2**20, 2000
PROCESSES = 4096  # of the user, threads included: room for a desktop, none for a fork bomb


class Client(NotebookClient):
    """nbclient that ends the process where a submission prints without end."""

    received = 0

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        """Count what comes, then do as nbclient does."""
        parts = [*msg["content"].get("data", {}).values(), msg["content"].get("text", "")]
        self.received += sum(len(part) for part in parts if isinstance(part, str))
        if self.received > OUTPUT_LIMIT:
            os._exit(3)
        return super().process_message(msg, cell, cell_index)


def limit(megabytes: int) -> None:
    """What this process and its kernel may take; none of it can be raised again."""
    most = {resource.RLIMIT_AS: megabytes * 2**20, resource.RLIMIT_FSIZE: FILE_LIMIT}
    most |= {resource.RLIMIT_CORE: 0, resource.RLIMIT_NPROC: PROCESSES}
    for kind, value in most.items():
        hard = resource.getrlimit(kind)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def said(outputs: list[NotebookNode]) -> dict[str, Any]:
    """Outputs of a cell without what is long: private data whole, texts cut."""
    found: dict[str, Any] = {"data": [], "printed": "", "error": None}
    for output in outputs:
        if output.output_type == "error":
            found["error"] = [str(output.ename)[:TEXT], str(output.evalue)[:TEXT]]
        elif output.output_type == "stream":
            found["printed"] = (found["printed"] + output.text)[:TEXT]
        else:
            found["data"].append(dict(output.data))
    return found


async def serve(place: Path, out: IO[str]) -> None:
    """Start the kernel, then a cell a line until the input ends or the kernel is gone."""
    nb = new_notebook()
    # Sockets are files, for there is no network, not even that of the machine with itself.
    manager = AsyncKernelManager(transport="ipc", ip=str(place / "k"))
    client = Client(nb, km=manager, timeout=None, store_widget_state=False)
    async with client.async_setup_kernel(cwd=str(place)):
        for line in sys.stdin:
            client.received = 0
            nb.cells = [new_code_cell(json.loads(line))]
            try:
                await client.async_execute_cell(nb.cells[0], 0)
            except CellExecutionError:
                pass
            except DeadKernelError:
                return
            print(json.dumps(said(nb.cells[0].outputs)), file=out, flush=True)


def main(megabytes: str) -> None:
    """Serve; the real output is for this process alone, what else is printed goes nowhere."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    limit(int(megabytes))
    with tempfile.TemporaryDirectory(prefix="w") as place:
        asyncio.run(serve(Path(place), out))


if __name__ == "__main__":
    main(sys.argv[1])
