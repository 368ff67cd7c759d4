"""Explorer: what a token attends to while the text settles: layer, head, sweep and token.

    p_ij at sweep k = softmax over {sink} and j < i of (q_i . k_j(r_k) / sqrt(d_h) + b[i - j])

All sweeps of a text are kept once, so that moving through them only draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from eqprop_lab.equilibrium.relaxation import movement, relax
from eqprop_lab.instruments.looking import attention_at
from eqprop_lab.models.language.directed import DirectedLM
from eqprop_lab.notebook.controls import Control, Slider
from eqprop_lab.notebook.explorer import Explorer
from eqprop_lab.notebook.moving_axes import REFERENCE, Show, decades, line, panels, titled
from eqprop_lab.notebook.style import AMOUNT, PALETTE, outlined

SWEEPS, FLOOR = 20, 1e-9
SETTLED = 1e-3
"""Residual below which a token counts as settled in the sentence."""

# Below all that moves: another sweep then leaves the letters as they are drawn.
_LETTER: dict[str, Any] = {"family": "monospace", "fontsize": 6.5, "zorder": -1}
_SHOWN = {" ": "␣", "\n": "⏎", "\t": "⇥"}


@dataclass(frozen=True)
class Film:
    """One text: attention, a layer (SWEEPS + 1, heads, T, 1 + T), the sink first; residuals
    (SWEEPS, T), relative, of every sweep and token.
    """

    attention: tuple[np.ndarray, ...]
    residuals: np.ndarray


@dataclass(frozen=True)
class Attention:
    """One picture. pattern (T, 1 + T) of the chosen layer, head and sweep; residuals (T,) of this
    sweep (1 at the start); settled: how many of the first tokens are below SETTLED.
    """

    symbols: tuple[str, ...]
    pattern: np.ndarray
    residuals: np.ndarray
    token: int
    sweep: int
    settled: int


def settling(model: DirectedLM, x: Tensor) -> Film:
    """Relax one text x (1, T) and keep what every sweep attends to."""
    with torch.no_grad():
        e = model.embedding(x)
    path = relax(model, x, SWEEPS, trajectory=True).trajectory
    assert path is not None
    maps = torch.stack([attention_at(model, state, e)[:, 0] for state in path], 1).double()
    moved = [movement(new, old)[0] for old, new in pairwise(path)]
    return Film(tuple(maps.cpu().numpy()), torch.stack(moved).double().cpu().numpy())


class AttentionAndSettling(Explorer):
    """Watch a text settle: what each token attends to, and how far it still moves.

    Args:
        model: a DirectedLM (FullEqPropLM, RecurrentEqPropLM). It is copied: training it further
            changes nothing here, a new explorer shows the new weights.
        x: (N, T) tokens, N texts. symbols: of every token of the vocabulary, as they are shown.
        **values: start values of the controls text, layer, head, sweep, token.
    Raises: TypeError for another model; TypeError or ValueError naming the argument.
    """

    title = "Attention and settling"
    size = (7.6, 4.3)

    def __init__(self, model: DirectedLM, x: Tensor, symbols: Sequence[str], **values: Any) -> None:
        if not isinstance(model, DirectedLM):
            raise TypeError(
                "model must be one whose loop runs through attention (FullEqPropLM, "
                f"RecurrentEqPropLM), got {type(model).__name__}"
            )
        model.check_batch(x)
        if x.shape[1] < 2:
            raise ValueError(f"x must hold texts of at least two tokens, got {tuple(x.shape)}")
        names = [str(symbol) for symbol in symbols]
        if len(names) != model.vocab_size:
            raise ValueError(
                f"symbols must hold one for each of the {model.vocab_size} tokens, got {len(names)}"
            )
        self.symbols = [_SHOWN.get(name, name) for name in names]
        self.model, self.x = deepcopy(model), x.detach()
        self.film = lru_cache(maxsize=16)(lambda text: settling(self.model, self.x[[text]]))
        super().__init__(**values)

    def make_controls(self) -> Sequence[Control]:
        texts, tokens = self.x.shape
        return (
            *_numbers("text", texts, 1, "Text"),
            *_numbers("layer", self.model.num_layers, 1, "Layer"),
            *_numbers("head", self.model.num_heads, 1, "Head"),
            Slider("sweep", 0, SWEEPS, SWEEPS, 1, "Sweep"),
            Slider("token", 1, tokens, max(2, 3 * tokens // 4), 1, "Token"),
        )

    def compute(self, **values: Any) -> Attention:
        text, sweep = values.get("text", 1) - 1, values["sweep"]
        kept = self.film(text)
        residuals = kept.residuals[sweep - 1] if sweep else np.ones(self.x.shape[1])
        moving = np.flatnonzero(residuals > SETTLED)
        return Attention(
            symbols=tuple(self.symbols[token] for token in self.x[text].tolist()),
            pattern=kept.attention[values.get("layer", 1) - 1][sweep, values.get("head", 1) - 1],
            residuals=residuals,
            token=values["token"] - 1,
            sweep=sweep,
            settled=int(moving[0]) if len(moving) else len(residuals),
        )

    def build(self, figure: Figure) -> Sequence[Show]:
        inches = (0.35, 0.15, 0.5, 0.35)
        ratios = {"width_ratios": (1.3, 1.0), "height_ratios": (1.0, 1.0)}
        board, top, bottom = panels(figure, "AB;AC", inches, wspace=0.26, hspace=0.62, **ratios)
        tokens = self.x.shape[1]
        return [_pattern(board, tokens), _row(top, tokens), _residuals(bottom, tokens)]

    def describe(self, data: Attention, **values: Any) -> str:
        row = data.pattern[data.token, : data.token + 1]
        order = np.argsort(-row, kind="stable")[:3]
        seen = ", ".join(f"{_place(data, int(j))} {row[j]:.2f}" for j in order)
        when = f"sweep {data.sweep}" if data.sweep else "the start (sweep 0)"
        return (
            f"Attention of every token to those before it as squares, text "
            f"{values.get('text', 1)}, layer {values.get('layer', 1)}, head "
            f"{values.get('head', 1)}, at {when}. Token {data.token + 1}, "
            f"{data.symbols[data.token]}, attends to {seen}. The first {data.settled} of "
            f"{len(data.residuals)} tokens move by less than {SETTLED:g}; the largest residual is "
            f"{data.residuals.max():.1e}, that of this token {data.residuals[data.token]:.1e}."
        )


def _place(data: Attention, key: int) -> str:
    """Column 0 is the sink."""
    return f"token {key} {data.symbols[key - 1]}" if key else "the sink"


def _numbers(name: str, count: int, start: int, label: str) -> list[Control]:
    """A slider over 1, ..., count; none where there is nothing to choose."""
    return [Slider(name, 1, count, start, 1, label)] if count > 1 else []


def _letters(axes: Axes, tokens: int) -> list[Text]:
    """Texts below the axes at 1, ..., T, for the symbols to come."""
    look = _LETTER | {"ha": "center", "va": "top"}
    place = axes.get_xaxis_transform()
    return [axes.text(i, -0.03, "", transform=place, **look) for i in range(1, tokens + 1)]


def _spell(texts: Sequence[Text], symbols: Sequence[str]) -> None:
    for text, symbol in zip(texts, symbols, strict=True):
        text.set_text(symbol)


def _pattern(axes: Axes, tokens: int) -> Show:
    """Rows attend to columns; column 0 is the sink."""
    axes.set(xlim=(-0.5, tokens + 0.5), ylim=(tokens + 0.5, 0.5), aspect="equal", anchor="NW")
    titled(axes, "Who attends to whom (left: the sink)")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    extent = (-0.5, tokens + 0.5, tokens + 0.5, 0.5)
    empty = np.zeros((tokens, tokens + 1))
    look: dict[str, Any] = {"interpolation": "nearest", "vmin": 0, "vmax": 1, "extent": extent}
    image = axes.imshow(empty, cmap=AMOUNT, **look)
    frame = line(axes, "-", **outlined(1.2))
    below = _letters(axes, tokens)
    side = _LETTER | {"ha": "right", "va": "center"}
    beside = [axes.text(-0.8, i, "", **side) for i in range(1, tokens + 1)]

    def show(data: Attention) -> None:
        image.set_data(np.sqrt(data.pattern))
        left, right, top = -0.5, data.token + 0.5, data.token + 0.5
        frame.set_data([left, right, right, left, left], [top, top, top + 1, top + 1, top])
        _spell(below, data.symbols)
        _spell(beside, data.symbols)

    return show


def _row(axes: Axes, tokens: int) -> Show:
    """What the chosen token attends to."""
    axes.set(xlim=(-0.8, tokens + 0.8), ylim=(0, 1.02), xticks=[], yticks=(0, 0.5, 1))
    titled(axes, "What this token attends to")
    edges = np.arange(tokens + 2) - 0.5
    bars = axes.stairs(np.zeros(tokens + 1), edges, fill=True, color=PALETTE[0])
    chosen = axes.axvline(0.0, color=PALETTE[1], linewidth=1.4)
    letters = _letters(axes, tokens)

    def show(data: Attention) -> None:
        bars.set_data(data.pattern[data.token])
        chosen.set_xdata([data.token + 1] * 2)
        _spell(letters, data.symbols)

    return show


def _residuals(axes: Axes, tokens: int) -> Show:
    """How far every token moved in this sweep, on a log axis."""
    axes.set(xlim=(-0.8, tokens + 0.8), yscale="log", ylim=(FLOOR, 3), xlabel="token")
    decades(axes.yaxis, -8, 0, 4)
    titled(axes, "How far every token still moves")
    axes.axhline(SETTLED, **REFERENCE)
    dots = line(axes, "o", color=PALETTE[2], markersize=3.5)
    here = line(axes, "o", color=PALETTE[1], markersize=7)

    def show(data: Attention) -> None:
        high = np.maximum(data.residuals, 1.3 * FLOOR)
        dots.set_data(np.arange(1, tokens + 1), high)
        here.set_data([data.token + 1], [high[data.token]])

    return show
