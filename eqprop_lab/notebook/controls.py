"""The controls of an explorer: labelled sliders, choices and switches that check what they are
given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

LABEL_STYLE = {"description_width": "16em"}
"""Room for the labels, the same for all controls."""

_WIDE = {"width": "36em", "max_width": "calc(100% - 4px)"}


@dataclass(frozen=True)
class Slider:
    """A number between `low` and `high` (inclusive), int when all of low, high, value and step are
    ints.

    `value` is `low` plus a whole number of steps, because a page moves a slider's handle to its
    steps. With `log=True` the slider moves in decades: `step` is a fraction of a decade, fitted so
    that `value` is on a step, and low > 0. `parameter` is what the notebook's parameters cell calls
    it, where that is another name.
    """

    name: str
    low: float
    high: float
    value: float
    step: float
    label: str
    unit: str = ""
    log: bool = False
    parameter: str = ""

    def __post_init__(self) -> None:
        _require_label(self.name, self.label)
        for name in ("low", "high", "value", "step"):
            number = getattr(self, name)
            if (
                isinstance(number, bool)
                or not isinstance(number, (int, float))
                or not math.isfinite(number)
            ):
                raise ValueError(
                    f"slider {self.name!r}: {name} = {number!r} is not a finite number"
                )
        if not self.low < self.high or self.step <= 0 or (self.log and self.low <= 0):
            raise ValueError(
                f"slider {self.name!r}: low {self.low!r}, high {self.high!r}, step {self.step!r}; needed "
                f"low < high and step > 0{', and low > 0 on a log slider' if self.log else ''}"
            )
        self.check(self.value)
        if not self.log and not self._on_a_step(self.value):
            raise ValueError(
                f"slider {self.name!r}: value = {self.value!r} is not low {self.low!r} plus whole steps of "
                f"{self.step!r}"
            )

    @property
    def page_step(self) -> float:
        """Step of the handle on its scale: `step`, or for a log slider the nearest that leads from
        low to value.
        """
        steps = round((self._scale(self.value) - self._scale(self.low)) / self.step)
        fitted = self.log and steps > 0
        return (self._scale(self.value) - self._scale(self.low)) / steps if fitted else self.step

    def rounded(self, value: float) -> float:
        """The value a reader sees: a page sends 0.03162277660168379 and 0.30000000000000004 for
        0.0316 and 0.3.
        """
        if self.integer:
            return int(value)
        short = float(f"{value:.3g}") if self.log else round(value, 9)
        return min(max(short, float(self.low)), float(self.high))

    def is_echo(self, held: float, sent: float) -> bool:
        """Whether a page that holds `held` sends `sent` by itself: the nearest step, or its
        rounding of the value.
        """
        if math.isclose(held, sent, rel_tol=1e-9, abs_tol=1e-12):
            return True
        distance = abs(self._scale(sent) - self._scale(held))
        return self._on_a_step(sent) and distance <= self.page_step * (0.5 + 1e-6)

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else float(value)

    def _on_a_step(self, value: float) -> bool:
        steps = (self._scale(value) - self._scale(self.low)) / self.page_step
        return abs(steps - round(steps)) < 1e-6

    @property
    def integer(self) -> bool:
        """Whether the slider moves over integers."""
        return not self.log and all(
            isinstance(v, int) for v in (self.low, self.high, self.value, self.step)
        )

    def check(self, value: Any) -> float:
        """The value as int or float, else ValueError naming slider, value and range."""
        wanted = f"{'an integer' if self.integer else 'a number'} from {self.low} to {self.high}"
        number = (
            value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        )
        whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
        if (
            isinstance(number, bool)
            or not isinstance(number, (int, float))
            or (self.integer and not whole)
        ):
            raise ValueError(f"{self.name} = {value!r} is not accepted; {wanted} is needed")
        if not self.low <= number <= self.high:
            raise ValueError(f"{self.name} = {value!r} is out of range; {wanted} is needed")
        return int(number) if self.integer else float(number)

    def widget(self) -> widgets.DOMWidget:
        """Slider with label, unit and read-out; arrow keys move it by one step."""
        label = f"{self.label} [{self.unit}]" if self.unit else self.label
        common = {
            "value": self.value,
            "step": self.page_step,
            "description": label,
            "style": LABEL_STYLE,
            "layout": _WIDE,
        }
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return widgets.FloatLogSlider(
                base=10, min=low, max=high, readout_format=".3g", **common
            )
        if self.integer:
            return widgets.IntSlider(min=self.low, max=self.high, **common)
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return widgets.FloatSlider(
            min=self.low, max=self.high, readout_format=f".{decimals}f", **common
        )


@dataclass(frozen=True)
class Choice:
    """One of `options`, in a drop-down list."""

    name: str
    options: Sequence[Any]
    value: Any
    label: str

    def __post_init__(self) -> None:
        _require_label(self.name, self.label)
        self.check(self.value)

    def check(self, value: Any) -> Any:
        """The value, else ValueError listing the options."""
        for option in self.options:
            if option is value or (type(option) is type(value) and option == value):
                return option
        raise ValueError(
            f"{self.name} = {value!r} is not accepted; one of {list(self.options)!r} is needed"
        )

    def widget(self) -> widgets.DOMWidget:
        """Drop-down list with label."""
        return widgets.Dropdown(
            options=list(self.options),
            value=self.value,
            description=self.label,
            style=LABEL_STYLE,
            layout=_WIDE,
        )


@dataclass(frozen=True)
class Toggle:
    """True or False, in a check box."""

    name: str
    value: bool
    label: str

    def __post_init__(self) -> None:
        _require_label(self.name, self.label)
        self.check(self.value)

    def check(self, value: Any) -> bool:
        """The value, else ValueError."""
        if not isinstance(value, bool):
            raise ValueError(f"{self.name} = {value!r} is not accepted; True or False is needed")
        return value

    def widget(self) -> widgets.DOMWidget:
        """Check box with label."""
        return widgets.Checkbox(
            value=self.value, description=self.label, style=LABEL_STYLE, layout=_WIDE
        )


Control = Slider | Choice | Toggle


def _require_label(name: str, label: str) -> None:
    if not name.isidentifier():
        raise ValueError(
            f"control name {name!r} is not a Python name; it becomes a keyword of compute()"
        )
    if not label.strip():
        raise ValueError(f"control {name!r} has no label; a reader cannot tell what it moves")
