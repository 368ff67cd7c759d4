"""The variant picker and the drawings of the variants: what is shown is what the model wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from eqprop_lab import get_eqprop_lm, list_eqprop_lm_variants
from eqprop_lab.datasets.vocabulary import Vocabulary
from eqprop_lab.notebook.explorers.variant_picker import (
    COLUMNS,
    LINES,
    NOTHING,
    Candidate,
    VariantPicker,
    wrapped,
)
from eqprop_lab.notebook.style import PALETTE, encode_png, new_figure
from eqprop_lab.notebook.token_schematic import DRAWINGS, draw_variant

CURVE = [(0, 4.6), (50, 3.0), (100, 2.25)]
STORED = Candidate(CURVE, {"validation": "2.25 nats"}, {"bigram": 2.5})


class Pen:
    """Writes what it was asked for, and counts how often."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def __call__(self, temperature: float, draw: int) -> str:
        self.asked.append((temperature, draw))
        return f"at {temperature} the draw {draw}"


def test_the_text_is_the_models_own() -> None:
    model = get_eqprop_lm("looped_mlp", vocab_size=96, hidden_dim=16, embed_dim=4, seed=0)
    assert model.vocab == Vocabulary.ascii()

    def write(temperature: float, draw: int) -> str:
        text: str = model.generate("Then ", 12, temperature=temperature, seed=draw)  # type: ignore[operator]
        return text

    picker = VariantPicker({"looped_mlp": replace(STORED, write=write)}, draw=3, temperature=1.0)
    assert picker.data.text == model.generate("Then ", 12, temperature=1.0, seed=3)  # type: ignore[operator]
    assert picker.data.text.startswith("Then ")


def test_a_draw_is_made_once_and_each_value_reaches_it() -> None:
    pen = Pen()
    picker = VariantPicker({"a": replace(STORED, write=pen), "b": STORED})
    picker.set(temperature=1.2)
    picker.set(draw=7)
    picker.set(temperature=0.7, draw=0)
    assert pen.asked == [(0.7, 0), (1.2, 0), (1.2, 7)]
    assert picker.data.lines == ("at 0.7 the draw 0",)


def test_a_model_without_weights_says_so_and_shows_its_sample() -> None:
    picker = VariantPicker({"a": STORED, "b": replace(STORED, sample="To be")})
    assert NOTHING in picker.alt and "stored run" in picker.alt
    picker.set(variant="b")
    assert picker.data.text == "To be" and "“To be”" in picker.alt


def test_the_sentence_has_the_ends_of_the_curve_and_the_numbers() -> None:
    alt = VariantPicker({"a": STORED}).alt
    assert re.search(r"from 4\.60 to 2\.25 nats a character in 100 steps", alt)
    assert "validation 2.25 nats" in alt


def test_the_picture_has_the_curve_the_floors_and_the_lines() -> None:
    tables = {"bigram": 2.5, "trigram": 2.0}
    both = {
        "a": replace(STORED, floors=tables, sample="one\ntwo"),
        "b": Candidate([(0, 4.0), (9, 1.0)], {}, {"5-gram": 1.5}),
    }
    picker = VariantPicker(both)
    figure = new_figure(*picker.size)
    shows = picker.build(figure)
    board, axes = figure.axes
    for name, curve in (("a", CURVE), ("b", [(0, 4.0), (9, 1.0)])):
        data = picker.compute(name, 0.7, 0)
        for show in shows:
            show(data)
        (line,) = [each for each in axes.lines if each.get_color() == PALETTE[0]]
        assert [tuple(point) for point in line.get_xydata()] == curve  # type: ignore[union-attr]
        assert axes.get_xlim() == (0, curve[-1][0])
        seen = [text for text in axes.texts if text.get_visible()]
        assert {text.get_text(): text.get_position()[1] for text in seen} == both[name].floors
        assert "\n".join(data.lines) in {text.get_text() for text in board.texts}
    low, high = axes.get_ylim()
    assert low <= 1.0 and high >= 4.6


def test_long_texts_are_wrapped_and_cut_where_the_picture_ends() -> None:
    lines = wrapped("word " * 200 + "\n\nend")
    assert len(lines) == LINES and max(map(len, lines)) <= COLUMNS
    assert wrapped("a\n\nb") == ("a", "", "b")


def test_an_error_while_writing_is_kept_and_shown() -> None:
    def fail(temperature: float, draw: int) -> str:
        if draw:
            raise RuntimeError("the ink is out")
        return "fine"

    picker = VariantPicker({"a": replace(STORED, write=fail)})
    with pytest.raises(RuntimeError, match="ink"):
        picker.set(draw=1)
    assert len(picker.errors) == 1
    picker.set(draw=0)
    assert picker.data.text == "fine"


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        ({}, "at least one model"),
        ([STORED], "at least one model"),
        ({"a": CURVE}, "must be a Candidate, got a list"),
        ({"a": replace(STORED, curve=[(0, 4.6)])}, "the curve of a"),
        ({"a": replace(STORED, curve=[(0, 4.6), (1, float("nan"))])}, "must be finite"),
        ({"a": replace(STORED, numbers=dict.fromkeys("abcd", ""))}, "numbers must have at most 3"),
        ({"a": replace(STORED, floors=dict.fromkeys("abcd", 1.0))}, "floors must have at most 3"),
    ],
)
def test_what_cannot_be_shown_is_refused(candidates: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        VariantPicker(candidates)


def test_texts_with_dollars_are_no_formulas() -> None:
    assert VariantPicker({"a": replace(STORED, sample="$\\frac{ $x")}).png.startswith(b"\x89PNG")


def test_every_variant_has_a_drawing() -> None:
    assert set(DRAWINGS) == set(list_eqprop_lm_variants())


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_shows_what_settles(name: str) -> None:
    figure = new_figure(2, 2.5)
    axes = figure.subplots()
    draw_variant(axes, name)
    boxed = [text for text in axes.texts if text.get_text()]
    filled = [text.get_text() for text in boxed if text.get_bbox_patch().get_facecolor()[3] > 0]  # type: ignore[union-attr]
    assert sorted(filled) == sorted(DRAWINGS[name].words[place] for place in DRAWINGS[name].settles)
    assert len(boxed) == len(DRAWINGS[name].words) and not axes.axison
    assert encode_png(figure, 50).startswith(b"\x89PNG")


def test_where_the_past_settles_as_well() -> None:
    """The directed loops, and no others: those that have no energy of the whole."""
    settles = {name for name, drawn in DRAWINGS.items() if any(x == 0 for x, _ in drawn.settles)}
    directed = {
        name
        for name in DRAWINGS
        if getattr(get_eqprop_lm(name, vocab_size=5), "estimator", None) == "asymmetric"
    }
    assert settles == directed


def test_an_unknown_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match="variant"):
        draw_variant(new_figure(2, 2).subplots(), "hybird")
