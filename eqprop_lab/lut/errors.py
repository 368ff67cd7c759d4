"""One kind of error for what a configuration says wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_value_error(where: str = "") -> Iterator[None]:
    """Inside, a TypeError about a value is a ValueError: a file has values and no types.

    where: goes before the message, as "encoder_config: ".
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and not where:
            raise
        raise ValueError(f"{where}{error}") from error
