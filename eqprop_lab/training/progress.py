"""The progress bar of an epoch: on a terminal, or where it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

from eqprop_lab.training.batches import length

Item = TypeVar("Item")


def on_a_terminal() -> bool:
    """Whether stderr is a terminal. A notebook's calls itself one too, but it has replaced the
    process's own.
    """
    stream = sys.__stderr__
    return stream is not None and sys.stderr is stream and stream.isatty()


def progress_bar(items: Iterable[Item], label: str, progress: bool | None) -> Iterator[Item]:
    """The items again, with a bar that leaves no trace. progress: True, False, None (only on a
    terminal).
    """
    total = length(items)
    shown = on_a_terminal() if progress is None else progress
    # Not around the items: tqdm's automatic kind calls iter() twice, and a DataLoader draws from
    # its generator and starts its workers each time.
    with tqdm(desc=label, total=total, leave=False, disable=not shown) as bar:
        for item in items:
            yield item
            bar.update()
