"""The controls of an explorer: labelled sliders, choices and switches that check their values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

LABEL_STYLE = {"description_width": "16em"}
"""Room for the labels, the same for all controls."""

_WIDE = {"width": "36em", "max_width": "calc(100% - 4px)"}


class _Labelled(ABC):
    """What all controls have in common."""

    name: str
    value: Any
    label: str
    unit: str = ""
    parameter: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(
                f"control name {self.name!r} is not a Python name; it becomes a keyword of "
                "compute()"
            )
        if not self.label.strip():
            raise ValueError(
                f"control {self.name!r} has no label; a reader cannot tell what it moves"
            )
        self.check(self.value)

    @property
    def caption(self) -> str:
        """Label and unit, as the page shows them."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def common(self) -> dict[str, Any]:
        """What every widget is made with."""
        look = {"style": LABEL_STYLE, "layout": _WIDE}
        return {"value": self.value, "description": self.caption} | look

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value, else ValueError naming control, value and what is accepted."""

    @abstractmethod
    def widget(self) -> widgets.DOMWidget:
        """What the reader moves."""


@dataclass(frozen=True)
class Slider(_Labelled):
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
        for name in ("low", "high", "value", "step"):
            number = getattr(self, name)
            if not _is_number(number) or not math.isfinite(number):
                raise ValueError(
                    f"slider {self.name!r}: {name} = {number!r} is not a finite number"
                )
        if not self.low < self.high or self.step <= 0 or (self.log and self.low <= 0):
            raise ValueError(
                f"slider {self.name!r}: low {self.low!r}, high {self.high!r}, step {self.step!r}; "
                "needed low < high and step > 0"
                f"{', and low > 0 on a log slider' if self.log else ''}"
            )
        super().__post_init__()
        if not self.log and not self._on_a_step(self.value):
            raise ValueError(
                f"slider {self.name!r}: value = {self.value!r} is not low {self.low!r} plus whole "
                f"steps of {self.step!r}"
            )

    @property
    def page_step(self) -> float:
        """Step of the handle: `step`, on a log slider the nearest that leads from low to value."""
        way = self._scale(self.value) - self._scale(self.low)
        steps = round(way / self.step)
        return way / steps if self.log and steps > 0 else self.step

    def rounded(self, value: float) -> float:
        """The value a reader sees: a page sends 0.30000000000000004 for 0.3."""
        if self.integer:
            return int(value)
        short = float(f"{value:.3g}") if self.log else round(value, 9)
        return min(max(short, float(self.low)), float(self.high))

    def is_echo(self, held: float, sent: float) -> bool:
        """Whether a page that holds `held` sends `sent` by itself: the nearest step, or rounded."""
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
        wanted = f"{'an integer' if self.integer else 'a number'} from {self.low} to {self.high}"
        single = hasattr(value, "item") and getattr(value, "ndim", 0) == 0
        number = value.item() if single else value
        if not _is_number(number) or (self.integer and number % 1):
            raise ValueError(f"{self.name} = {value!r} is not accepted; {wanted} is needed")
        if not self.low <= number <= self.high:
            raise ValueError(f"{self.name} = {value!r} is out of range; {wanted} is needed")
        return int(number) if self.integer else float(number)

    def widget(self) -> widgets.DOMWidget:
        common = self.common | {"step": self.page_step}
        if self.log:
            ends = {"min": math.log10(self.low), "max": math.log10(self.high)}
            return widgets.FloatLogSlider(base=10, readout_format=".3g", **common, **ends)
        ends = {"min": self.low, "max": self.high}
        if self.integer:
            return widgets.IntSlider(**common, **ends)
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return widgets.FloatSlider(readout_format=f".{decimals}f", **common, **ends)


@dataclass(frozen=True)
class Choice(_Labelled):
    """One of `options`, in a drop-down list."""

    name: str
    options: Sequence[Any]
    value: Any
    label: str

    def check(self, value: Any) -> Any:
        for option in self.options:
            if option is value or (type(option) is type(value) and option == value):
                return option
        raise ValueError(
            f"{self.name} = {value!r} is not accepted; one of {list(self.options)!r} is needed"
        )

    def widget(self) -> widgets.DOMWidget:
        return widgets.Dropdown(options=list(self.options), **self.common)


@dataclass(frozen=True)
class Toggle(_Labelled):
    """True or False, in a check box."""

    name: str
    value: bool
    label: str

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{self.name} = {value!r} is not accepted; True or False is needed")
        return value

    def widget(self) -> widgets.DOMWidget:
        return widgets.Checkbox(**self.common)


Control = Slider | Choice | Toggle


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
