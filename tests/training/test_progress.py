"""The progress bar shows itself on terminals, and elsewhere only when asked."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from eqprop_lab import EqPropTrainer, LoopedMLP, build_dataset
from eqprop_lab.training import progress


@pytest.mark.parametrize(
    ("asked", "terminal", "shown"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_the_bar_is_for_terminals_unless_asked_for(
    asked: bool | None,
    terminal: bool,
    shown: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "on_a_terminal", lambda: terminal)
    batches = build_dataset({"name": "xor", "samples": 20}).train.batches(10)
    EqPropTrainer(LoopedMLP(2, 4, 2), progress=asked).fit(batches, epochs=1)
    assert ("epoch 1" in capsys.readouterr().err) is shown


def test_items_without_a_length_pass_through() -> None:
    assert list(progress.progress_bar(iter(range(3)), "count", False)) == [0, 1, 2]


def test_a_replaced_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pretending(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Pretending())
    assert not progress.on_a_terminal()
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    assert progress.on_a_terminal()


def test_the_items_are_begun_once() -> None:
    class Loader(list[int]):
        begun = 0

        def __iter__(self) -> Iterator[int]:
            self.begun += 1
            return super().__iter__()

    for shown in (True, False):
        loader = Loader([1, 2])
        assert list(progress.progress_bar(loader, "count", shown)) == [1, 2] and loader.begun == 1
