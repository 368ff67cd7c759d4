"""One explorer or cockpit on a page: its picture, its sentence, its sliders and buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

_LOOKS_OTHER = """([root, src, alt]) => {
  const picture = root.querySelector('img.eqprop-picture');
  return picture && picture.src !== src && picture.alt !== alt;
}"""
_SAYS = (
    "([root, selector, text]) =>"
    " [...root.querySelectorAll(selector)].some(e => e.innerText.includes(text))"
)


@dataclass(frozen=True)
class Look:
    """What a reader has before the eyes: the picture's data and its alternative text."""

    src: str
    alt: str


class LivePart:
    """Drives the live picture at `root`, a `.eqprop-live` element."""

    def __init__(self, page: Page, root: Locator) -> None:
        self._page, self.root = page, root

    @property
    def is_cockpit(self) -> bool:
        """Whether this is a training cockpit."""
        return "eqprop-cockpit" in (self.root.get_attribute("class") or "")

    @property
    def sliders(self) -> int:
        """How many slider handles there are."""
        return self.root.locator(".noUi-handle").count()

    @property
    def lists(self) -> int:
        """How many drop-down lists there are."""
        return self.root.locator("select").count()

    def choose(self, number: int) -> str:
        """Take another option of a list; returns which."""
        chosen = self.root.locator("select").nth(number)
        options = chosen.locator("option").all_inner_texts()
        here = chosen.evaluate("list => list.selectedIndex")
        other = options[(here + 1) % len(options)]
        chosen.select_option(label=other)
        return other

    def look(self) -> Look:
        """The present picture."""
        return Look(*self.root.locator("img.eqprop-picture").evaluate("img => [img.src, img.alt]"))

    def press(self, slider: int, key: str | None = None) -> str:
        """Press an arrow key on a slider, away from its end unless `key` says which; returns the
        slider's label.
        """
        handle = self.root.locator(".noUi-handle").nth(slider)
        handle.scroll_into_view_if_needed()
        if key is None:
            at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            key = "ArrowLeft" if at_end else "ArrowRight"
        handle.focus()
        self._page.keyboard.press(key)
        return self.root.locator(".widget-slider .widget-label").nth(slider).inner_text()

    def move_to_end(self, label: str) -> float:
        """Press End on the slider with this label; returns the largest value, where it is now."""
        labels = self.root.locator(".widget-slider .widget-label").all_inner_texts()
        slider = labels.index(label)
        self.press(slider, "End")
        return float(
            self.root.locator(".noUi-handle").nth(slider).get_attribute("aria-valuemax") or "nan"
        )

    def wait_for_other_look(self, before: Look, after: str = "") -> None:
        """Until picture and alternative text both differ; a TimeoutError that says `after` what, at
        the limit.
        """
        try:
            self._page.wait_for_function(
                _LOOKS_OTHER, arg=[self.root.element_handle(), before.src, before.alt]
            )
        except Exception as error:
            now = self.look()
            same = [what for what in ("src", "alt") if getattr(now, what) == getattr(before, what)]
            error.add_note(
                f"unchanged{after and ' after '}{after}: {' and '.join(same)}; alt: {now.alt}"
            )
            raise

    def wait_for_alt(self, text: str, limit_ms: float | None = None) -> None:
        """Until the alternative text contains `text`."""
        # In CSS, [alt*="..."] is "contains".
        self.root.locator(f'img.eqprop-picture[alt*="{text}"]').wait_for(timeout=limit_ms)

    def click(self, name: str) -> None:
        """Click start, stop, reset or copy."""
        self.root.locator(f".eqprop-{name}").click()

    def wait_for_text(self, selector: str, text: str) -> None:
        """Until an element of this part contains the text."""
        self._page.wait_for_function(_SAYS, arg=[self.root.element_handle(), selector, text])

    def alert(self) -> str:
        """The text of the alert, waiting for it to be there."""
        return self.root.locator("[role=alert]").inner_text()
