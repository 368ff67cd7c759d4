"""Answers to the exercises of notebook 12 as learners give them."""

from __future__ import annotations

from collections.abc import Sequence

from eqprop_lab.lut.netlist import Netlist, Table
from eqprop_lab.lut.simplify import simplify
from tests.course.answers import right, wrong

# --- with_negated_pin


def rearranged(entries: int, pins: int, mask: int) -> int:
    return sum((entries >> (k ^ mask) & 1) << k for k in range(2**pins))


@wrong("with_negated_pin", "pin 0 is the lowest bit of the address")
def highest_bit_first(entries: int, place: int, pins: int) -> int:
    return rearranged(entries, pins, 1 << (pins - 1 - place))


@wrong("with_negated_pin", "this negates what comes out, not what goes in")
def output_negated(entries: int, place: int, pins: int) -> int:
    return entries ^ (2**2**pins - 1)


@wrong("with_negated_pin", "this negates all pins")
def all_pins_negated(entries: int, place: int, pins: int) -> int:
    return rearranged(entries, pins, 2**pins - 1)


@wrong("with_negated_pin", "at which address")
def place_for_its_bit(entries: int, place: int, pins: int) -> int:
    return rearranged(entries, pins, place)


@wrong("with_negated_pin", "at which address")
def one_half_only(entries: int, place: int, pins: int) -> int:
    return sum((entries >> (k | 1 << place) & 1) << k for k in range(2**pins))


@right("with_negated_pin")
def half_after_half(entries: int, place: int, pins: int) -> int:
    step, low = 1 << place, 0
    for k in range(2**pins):
        low |= (not k & step) << k
    return (entries & low) << step | entries >> step & low


# --- shortened

Short = tuple[list[int], int]


def shorter(
    pins: Sequence[int], entries: int, upper: bool = False, once: bool = False, keep: int = 0
) -> Short:
    names = list(pins)
    for place in range(len(names) - 1, keep - 1, -1):
        low = [k for k in range(2 ** len(names)) if not k >> place & 1]
        pairs = [(entries >> k & 1, entries >> (k | 1 << place) & 1) for k in low]
        if all(a == b for a, b in pairs):
            entries = sum(pair[upper] << k for k, pair in enumerate(pairs))
            del names[place]
            if once:
                break
    return names, entries


@wrong("shortened", "give two things")
def entries_alone(pins: tuple[int, ...], entries: int) -> int:
    return shorter(pins, entries)[1]


@wrong("shortened", "decides nothing is still there")
def as_it_was(pins: tuple[int, ...], entries: int) -> Short:
    return list(pins), entries


@wrong("shortened", "decides nothing is still there")
def one_pin_at_most(pins: tuple[int, ...], entries: int) -> Short:
    return shorter(pins, entries, once=True)


@wrong("shortened", "some bit is beyond them")
def table_not_cut(pins: tuple[int, ...], entries: int) -> Short:
    return shorter(pins, entries)[0], entries


@wrong("shortened", "in their old order")
def sorted_by_name(pins: tuple[int, ...], entries: int) -> Short:
    names, short = shorter(pins, entries)
    return sorted(names, reverse=names == sorted(names)), short


@wrong("shortened", "a pin that decides something is gone")
def first_pair_asked(pins: tuple[int, ...], entries: int) -> Short:
    names = list(pins)
    for place in range(len(names) - 1, -1, -1):
        if entries & 1 == entries >> (1 << place) & 1:
            low = [k for k in range(2 ** len(names)) if not k >> place & 1]
            entries = sum((entries >> k & 1) << new for new, k in enumerate(low))
            del names[place]
    return names, entries


@wrong("shortened", "the first pin is the lowest bit of the address")
def highest_pin_first(pins: tuple[int, ...], entries: int) -> Short:
    names, short = shorter(pins, entries)
    count = len(names)
    found = 0
    for k in range(2**count):
        mirrored = int(f"{k:0{count}b}"[::-1], 2) if count else 0
        found |= (short >> k & 1) << mirrored
    return names, found


@wrong("shortened", "other values")
def opposite_entries(pins: tuple[int, ...], entries: int) -> Short:
    names, short = shorter(pins, entries)
    return names, short ^ (2**2 ** len(names) - 1)


@wrong("shortened", "uses simplify")
def of_the_package(pins: tuple[int, ...], entries: int) -> Short:
    found = simplify(Netlist(1, (), (Table((), 0), Table((0,), 1)), ((1,),), (0,)))
    return list(pins), found.netlist.tables[0].entries


@right("shortened")
def upper_half_of_the_pairs(pins: tuple[int, ...], entries: int) -> Short:
    return shorter(pins, entries, upper=True)


# --- counted


@wrong("counted", "uses range")
def sample_by_sample(wires: tuple[int, ...], samples: int) -> tuple[int, ...]:
    counts = [sum(wire >> s & 1 for wire in wires) for s in range(samples)]
    words = len(wires).bit_length()
    return tuple(sum((n >> j & 1) << s for s, n in enumerate(counts)) for j in range(words))


@wrong("counted", "the lowest bit of the count comes first")
def highest_word_first(wires: tuple[int, ...], samples: int) -> tuple[int, ...]:
    words = [0] * len(wires).bit_length()
    for carry in wires:
        for j, word in enumerate(words):
            words[j], carry = word ^ carry, word & carry
    return tuple(reversed(words))


@wrong("counted", "zero in every case")
def parity_alone(wires: tuple[int, ...], samples: int) -> tuple[int, ...]:
    words = [0] * len(wires).bit_length()
    for wire in wires:
        words[0] ^= wire
    return tuple(words)


@wrong("counted", "zero in every case; the rest is right")
def carry_stops(wires: tuple[int, ...], samples: int) -> tuple[int, ...]:
    words = [0] * len(wires).bit_length()
    for wire in wires:
        carry = words[0] & wire
        words[0] ^= wire
        words[1] ^= carry
    return tuple(words)


@wrong("counted", "each word meet the carry of its own")
def carry_after_the_sum(wires: tuple[int, ...], samples: int) -> tuple[int, ...]:
    words = [0] * len(wires).bit_length()
    for carry in wires:
        for j, _ in enumerate(words):
            words[j] ^= carry
            carry &= words[j]
    return tuple(words)


@right("counted")
def two_by_two(wires: tuple[int, ...], samples: int) -> tuple[int, ...]:
    words = [0] * len(wires).bit_length()
    for wire in wires:
        j = 0
        while wire:
            words[j], wire = words[j] ^ wire, words[j] & wire
            j += 1
    return tuple(words)
