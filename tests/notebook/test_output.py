from __future__ import annotations

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from eqprop_lab.notebook import output


def test_a_plain_program_prints_the_text_and_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"image/png": "iVBORw0", "text/plain": "One line that rises."})
    output.emit({"application/vnd.eqprop.metrics+json": {}})
    assert capsys.readouterr().out == "One line that rises.\n"


def test_in_a_kernel_the_bundle_is_displayed_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: True)
    monkeypatch.setattr(output, "display", lambda *data, **options: calls.append((data, options)))
    output.emit({"text/plain": "a"}, {"image/png": {"alt": "b"}})
    assert calls == [
        (({"text/plain": "a"},), {"metadata": {"image/png": {"alt": "b"}}, "raw": True})
    ]
