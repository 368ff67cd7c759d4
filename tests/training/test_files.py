"""A file is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest

from eqprop_lab.training.files import replace_file, replace_text


def test_a_failing_writer_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = replace_text(tmp_path / "new" / "a.txt", "old: ä")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replace_file(path, fail)
    assert path.read_text(encoding="utf-8") == "old: ä" and list(path.parent.iterdir()) == [path]
    assert replace_file(path, lambda file: file.write(b"new")).read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
