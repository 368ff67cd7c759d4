"""Runs inside the kernel before the first cell: exceptions in threads are written to a file the
runner reads.

Such an exception reaches no cell: it is printed to a stream whose messages may arrive after the
cell has ended.
"""

from __future__ import annotations


def install() -> None:
    """Append a line of JSON for each uncaught exception to the file EQPROP_THREAD_ERRORS."""
    # Imports and names stay inside: the runner runs this file by path and its globals are gone
    # afterwards.
    import json
    import os
    import threading

    path = os.environ.get("EQPROP_THREAD_ERRORS")
    previous = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if path:
            thread = arguments.thread.name if arguments.thread else "unknown thread"
            line = json.dumps(
                {"thread": thread, "error": f"{arguments.exc_type.__name__}: {arguments.exc_value}"}
            )
            with open(path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        previous(arguments)

    threading.excepthook = hook


if __name__ == "__main__":
    install()
