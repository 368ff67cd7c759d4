"""What a screenshot of a dark page must not have."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def white_blocks(png: bytes, side: int = 24) -> list[tuple[int, int]]:
    """(row, column) of the squares of `side` pixels that are light all over; letters and thin lines
    are none.
    """
    page = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    height, width = (length // side * side for length in page.shape)
    squares = page[:height, :width].reshape(height // side, side, width // side, side)
    rows, columns = np.nonzero(squares.min(axis=(1, 3)) > 200)
    return [
        (int(row) * side, int(column) * side) for row, column in zip(rows, columns, strict=True)
    ]
