"""The notebooks of the series, by name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SERIES = sorted(path.stem for path in FOLDER.glob("[0-9][0-9]_*.ipynb"))
