"""All controls of one explorer together: present values, reset, the values as a parameters cell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from eqprop_lab.notebook.controls import Control, Slider


class Controls:
    """Controls and their values; `changed()` is called when a reader moves one."""

    def __init__(
        self, controls: Sequence[Control], changed: Callable[[], None], start: Mapping[str, Any]
    ) -> None:
        names = [control.name for control in controls]
        if len(set(names)) != len(names):
            raise ValueError(f"two controls have the same name: {names}")
        self._controls = {control.name: control for control in controls}
        self._defaults = self.check(
            {control.name: control.value for control in controls} | dict(start)
        )
        self.values: dict[str, Any] = {}
        self.widgets = {control.name: control.widget() for control in controls}
        self._changed = changed
        self._quiet_thread: int | None = None
        self.assign(self._defaults)
        for name, widget in self.widgets.items():
            widget.observe(
                lambda change, name=name: self._moved(name, change["new"]), names="value"
            )

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values; ValueError names an unknown control or a value out of range."""
        for name in values:
            if name not in self._controls:
                raise ValueError(
                    f"unknown control {name!r}; there are: {', '.join(self._controls) or 'none'}"
                )
        return {name: self._controls[name].check(value) for name, value in values.items()}

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set checked values and move the widgets along without calling `changed`."""
        self.values.update(values)
        with self._quietly():
            for name, value in values.items():
                self.widgets[name].value = value

    def reset(self) -> None:
        """Back to the values the explorer started with."""
        self.assign(self._defaults)

    def disable(self, disabled: bool) -> None:
        """Lock or unlock every control."""
        for widget in self.widgets.values():
            widget.disabled = disabled

    def describe(self) -> str:
        """The present values in words: "learning rate 0.003, hidden units 64"."""
        words = []
        for name, control in self._controls.items():
            value = self.values[name]
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            words.append(f"{control.label} {text} {control.unit}".rstrip())
        return ", ".join(words)

    def as_parameters(self) -> str:
        """The present values as a papermill `parameters` cell, one annotated literal a line."""
        lines = []
        for name, control in self._controls.items():
            value = self.values[name]
            # papermill takes an equals sign in the comment for another assignment and hides the
            # parameter.
            note = control.caption.replace("=", ":")
            parameter = control.parameter or name
            lines.append(f"{parameter}: {type(value).__name__} = {value!r}  # {note}")
        return "\n".join(lines)

    def _moved(self, name: str, value: Any) -> None:
        if self._quiet_thread == threading.get_ident():
            return
        control = self._controls[name]
        if isinstance(control, Slider):
            # A log slider's end, 10 ** log10(high), may lie one rounding error outside.
            value = control.check(min(max(value, control.low), control.high))
            # A page that shows a value set from code answers with the nearest step, which is
            # nobody's wish.
            if control.is_echo(self.values[name], value):
                return
            value = control.rounded(value)
        self.values = self.values | {name: value}
        self._changed()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Observers run in the thread that assigns: only that thread's changes are from code."""
        before, self._quiet_thread = self._quiet_thread, threading.get_ident()
        try:
            yield
        finally:
            self._quiet_thread = before
