"""A hard network as one combinational Verilog-2001 module, encoder, counts and answer included.

    input  x       features side by side, feature 0 lowest: float32 words, or integers 0 .. levels
    output counts  what each class counts, class 0 lowest
    output label   the class that counts most, the first of equals

A float32 word is compared as an integer: with its lower bits turned where it is negative, the order
of the words is that of the numbers. With `levels` a feature k / levels comes as the integer k, and
a comparator is as narrow as that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from eqprop_lab.lut.export.names import a_name, head
from eqprop_lab.lut.netlist import Netlist, Table, on_grid

WORD = 32
TABLE = """module lut #(parameter N = 1, parameter [2**N-1:0] INIT = 0)
  (input wire [N-1:0] a, output wire y);
  assign y = INIT[a];
endmodule"""


def to_verilog(netlist: Netlist, name: str = "lut_network", levels: int | None = None) -> str:
    """The text of a module `name`, and of the module `lut` that it is made of.

    levels: inputs are integers k that stand for k / levels (8-bit pixels: 255); None: float32
    words. Raises TypeError, ValueError.
    """
    if levels is not None:
        netlist = on_grid(netlist, levels)
    lines = [f"// {line}" for line in head(netlist)]
    lines += ["", TABLE, "", *_ports(netlist, a_name(name), levels)]
    lines += _comparators(netlist, levels)
    first = len(netlist.comparators)
    for number, table in enumerate(netlist.tables):
        lines.append(_table(first + number, table, first))
    lines += _classes(netlist)
    return "\n".join([*lines, "endmodule", ""])


def to_testbench(
    netlist: Netlist,
    x: ArrayLike,
    counts: ArrayLike,
    name: str = "lut_network",
    levels: int | None = None,
) -> str:
    """A module `name`_test that gives x (N, features) and compares with counts (N, classes).

    It prints "ok: N vectors", or every mismatch and their number. Raises TypeError, ValueError.
    """
    rows, wanted = input_words(netlist, x, levels), np.asarray(counts)
    if wanted.shape != (len(rows), len(netlist.outputs)):
        raise ValueError(
            f"counts must have shape {(len(rows), len(netlist.outputs))}, got {wanted.shape}"
        )
    bits = netlist.features * width_of(levels)
    size, classes = count_width(netlist), len(netlist.outputs)
    labels = wanted.argmax(1)
    lines = [
        f"module {a_name(name)}_test;",
        f"  reg [{bits - 1}:0] x;",
        f"  wire [{size * classes - 1}:0] counts;",
        f"  wire [{label_width(classes) - 1}:0] label;",
        "  integer wrong;",
        f"  {name} dut (.x(x), .counts(counts), .label(label));",
        "  initial begin",
        "    wrong = 0;",
    ]
    for number, (row, count, label) in enumerate(zip(rows, wanted, labels, strict=True)):
        word = sum(int(one) << size * place for place, one in enumerate(count))
        lines += [
            f"    x = {bits}'h{row:x}; #1;",
            f"    if (counts !== {size * classes}'h{word:x} || label !== {label}) begin",
            f'      wrong = wrong + 1; $display("vector {number}: counts %h, label %d", counts, '
            "label);",
            "    end",
        ]
    lines += [
        f'    if (wrong == 0) $display("ok: {len(rows)} vectors");',
        f'    else $display("%0d of {len(rows)} vectors differ", wrong);',
        "    $finish;",
        "  end",
        "endmodule",
    ]
    return "\n".join([*lines, ""])


def input_words(netlist: Netlist, x: ArrayLike, levels: int | None = None) -> list[int]:
    """What stands at port x for every sample of x (N, features).

    Raises ValueError for values that are no k / levels.
    """
    rows = netlist.rows(x)
    if levels is None:
        raw = np.ascontiguousarray(rows).astype("<f4").view(np.uint8)
        return [int.from_bytes(row.tobytes(), "little") for row in raw.reshape(len(rows), -1)]
    whole = np.rint(rows.astype(np.float64) * levels).astype(np.int64)
    given = (whole / levels).astype(np.float32)
    if (given != rows).any() or whole.min(initial=0) < 0 or whole.max(initial=0) > levels:
        raise ValueError(f"x must hold values k / {levels}, k = 0 .. {levels}, and no others")
    bits = whole[:, :, None] >> np.arange(width_of(levels)) & 1
    raw = np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in raw]


def width_of(levels: int | None) -> int:
    """Bits of a feature at port x."""
    return WORD if levels is None else levels.bit_length()


def count_width(netlist: Netlist) -> int:
    """Bits of what a class counts."""
    parts = zip(netlist.outputs, netlist.offsets, strict=True)
    return max(1, max(len(part) + offset for part, offset in parts).bit_length())


def label_width(classes: int) -> int:
    """Bits of the number of a class."""
    return max(1, (classes - 1).bit_length())


def _ports(netlist: Netlist, name: str, levels: int | None) -> list[str]:
    classes = len(netlist.outputs)
    return [
        f"module {name} (",
        f"  input wire [{netlist.features * width_of(levels) - 1}:0] x,",
        f"  output wire [{count_width(netlist) * classes - 1}:0] counts,",
        f"  output wire [{label_width(classes) - 1}:0] label",
        ");",
    ]


def ordered(threshold: float) -> int:
    """A float32 number as an integer in the order of the numbers; -0 counts as 0."""
    word = int(np.float32(threshold + 0.0).view(np.uint32))
    return word ^ (0xFFFFFFFF if word >> 31 else 0x80000000)


def _comparators(netlist: Netlist, levels: int | None) -> Iterator[str]:
    width, seen = width_of(levels), set[int]()
    for number, part in enumerate(netlist.comparators):
        low, high = part.feature * width, (part.feature + 1) * width - 1
        value = f"x[{high}:{low}]"
        if np.isinf(part.threshold):
            yield f"  wire c{number} = 1'b{int(part.threshold < 0)};"
            continue
        if levels is None:
            value = f"k{part.feature}"
            if part.feature not in seen:
                seen.add(part.feature)
                key = f"x[{high}] ? ~x[{high}:{low}] : {{1'b1, x[{high - 1}:{low}]}}"
                yield f"  wire [{WORD - 1}:0] {value} = {key};"
            level = f"{WORD}'h{ordered(part.threshold):08x}"
        else:
            level = f"{width}'d{round(part.threshold * levels)}"
        yield f"  wire c{number} = {value} > {level};"


def _signal(number: int, first: int) -> str:
    return f"c{number}" if number < first else f"t{number - first}"


def _table(number: int, table: Table, first: int) -> str:
    name, inputs = _signal(number, first), len(table.pins)
    if not inputs:
        return f"  wire {name} = 1'b{table.entries};"
    pins = ", ".join(_signal(pin, first) for pin in reversed(table.pins))
    size = 2**inputs
    init = f"{size}'h{table.entries:0{-(-size // 4)}x}"
    return (
        f"  wire {name}; lut #(.N({inputs}), .INIT({init})) u{name} (.a({{{pins}}}), .y({name}));"
    )


def _classes(netlist: Netlist) -> Iterator[str]:
    """Counts, then the largest of the first two, three, ... of them."""
    size, first, classes = count_width(netlist), len(netlist.comparators), len(netlist.outputs)
    wide = label_width(classes)
    for label, (part, offset) in enumerate(zip(netlist.outputs, netlist.offsets, strict=True)):
        terms = " + ".join([f"{size}'d{offset}", *(_signal(signal, first) for signal in part)])
        yield f"  wire [{size - 1}:0] n{label} = {terms};"
    yield f"  wire [{size - 1}:0] m0 = n0;"
    yield f"  wire [{wide - 1}:0] a0 = {wide}'d0;"
    for label in range(1, classes):
        more = f"n{label} > m{label - 1}"
        yield f"  wire [{size - 1}:0] m{label} = {more} ? n{label} : m{label - 1};"
        yield f"  wire [{wide - 1}:0] a{label} = {more} ? {wide}'d{label} : a{label - 1};"
    counts = ", ".join(f"n{label}" for label in reversed(range(classes)))
    yield f"  assign counts = {{{counts}}};"
    yield f"  assign label = a{classes - 1};"
