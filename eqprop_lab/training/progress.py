"""What is shown of an epoch: a bar while it runs, on a terminal or where asked for; a line."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

from eqprop_lab.training.batches import length
from eqprop_lab.training.history import Record

Item = TypeVar("Item")


def on_a_terminal() -> bool:
    """Whether stderr is a terminal: a notebook's calls itself one, but is not the process's own."""
    stream = sys.__stderr__
    return stream is not None and sys.stderr is stream and stream.isatty()


def progress_bar(items: Iterable[Item], label: str, progress: bool | None) -> Iterator[Item]:
    """The items again, with a bar that leaves no trace. progress: None is only on a terminal."""
    total = length(items)
    shown = on_a_terminal() if progress is None else progress
    # Not around the items: tqdm's automatic kind calls iter() twice, and a DataLoader draws from
    # its generator and starts its workers each time.
    with tqdm(desc=label, total=total, leave=False, disable=not shown) as bar:
        for item in items:
            yield item
            bar.update()


def show(record: Record) -> None:
    """Print one line; the residual is that of the evaluation, for networks that settle."""
    settled = ""
    if not math.isnan(record["val_residual"]):
        settled = f"residual {record['val_residual']:.1e}  norm {record['norm']:.3f}  "
    print(
        f"epoch {record['epoch']:>3}  "
        f"train loss {record['train_loss']:.4f}  accuracy {record['train_accuracy']:.4f}  "
        f"validation loss {record['val_loss']:.4f}  accuracy {record['val_accuracy']:.4f}  "
        f"{settled}{record['seconds']:.1f} s",
        flush=True,
    )
