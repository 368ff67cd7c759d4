"""A hard network as one C99 file without dependencies: encoder, tables, counts, answer, self-test.

    void NAME_counts(const float *x, size_t samples, int32_t *counts);    rows of features, classes
    void NAME_labels(const float *x, size_t samples, int32_t *labels);    the first of equals
    int NAME_self_test(void);                                             0: as when it was written

64 samples are one machine word, one bit each. Tables are data: a loop reads them, since a statement
a table takes a compiler minutes. With -DLUT_MAIN it is a program: rows of numbers in, labels out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from eqprop_lab.lut.export.names import a_name, head
from eqprop_lab.lut.netlist import Netlist

TESTED = 128  # samples of the self-test: two words
PER_LINE = 12
MASK = 2**32 - 1

BODY = r"""
static void word_of(const float *x, size_t samples, uint64_t *signal)
{
    uint64_t half[1 << MOST_PINS];
    size_t at = 0, word = 0;
    for (size_t c = 0; c != COMPARATORS; c++) {
        signal[c] = 0;
        for (size_t s = 0; s < samples; s++)
            signal[c] |= (uint64_t)(x[s * FEATURES + feature[c]] > threshold[c]) << s;
    }
    for (size_t t = 0; t != TABLES; t++) {
        size_t size = (size_t)1 << fan_in[t];
        for (size_t k = 0; k < size; k++)
            half[k] = entries[word + k / 64] >> k % 64 & 1 ? ~(uint64_t)0 : 0;
        for (size_t p = 0; p != fan_in[t]; p++) {
            uint64_t bit = signal[pin[at + p]];
            size /= 2;
            for (size_t k = 0; k < size; k++)
                half[k] = half[2 * k] ^ ((half[2 * k] ^ half[2 * k + 1]) & bit);
        }
        signal[COMPARATORS + t] = half[0];
        at += fan_in[t];
        word += fan_in[t] > 6 ? (size_t)1 << (fan_in[t] - 6) : 1;
    }
}

void NAME_counts(const float *x, size_t samples, int32_t *counts)
{
    uint64_t signal[COMPARATORS + TABLES + 1];
    for (size_t start = 0; start < samples; start += 64) {
        size_t here = samples - start < 64 ? samples - start : 64, at = 0;
        word_of(x + start * FEATURES, here, signal);
        for (size_t k = 0; k != CLASSES; k++) {
            for (size_t s = 0; s < here; s++)
                counts[(start + s) * CLASSES + k] = offset[k];
            for (size_t o = 0; o != counted[k]; o++, at++)
                for (size_t s = 0; s < here; s++)
                    counts[(start + s) * CLASSES + k] += (int32_t)(signal[output[at]] >> s & 1);
        }
    }
}

void NAME_labels(const float *x, size_t samples, int32_t *labels)
{
    int32_t counts[64 * CLASSES];
    for (size_t start = 0; start < samples; start += 64) {
        size_t here = samples - start < 64 ? samples - start : 64;
        NAME_counts(x + start * FEATURES, here, counts);
        for (size_t s = 0; s < here; s++) {
            const int32_t *row = counts + s * CLASSES;
            int32_t best = 0;
            for (int32_t k = 1; k < CLASSES; k++)
                if (row[k] > row[best])
                    best = k;
            labels[start + s] = best;
        }
    }
}

int NAME_self_test(void)
{
    static float x[TESTED * FEATURES];
    static int32_t counts[TESTED * CLASSES];
    uint32_t drawn = 1, sum = 2166136261u;
    for (size_t i = 0; i < TESTED * FEATURES; i++) {
        drawn = drawn * 1664525u + 1013904223u;
        x[i] = sample[(drawn >> 8) % SAMPLES];
    }
    NAME_counts(x, TESTED, counts);
    for (size_t i = 0; i < TESTED * CLASSES; i++)
        sum = (sum ^ (uint32_t)counts[i]) * 16777619u;
    return sum != CHECKSUM;
}

#ifdef LUT_MAIN
#include <stdio.h>
int main(void)
{
    static float x[FEATURES];
    int32_t label;
    size_t read = 0;
    if (NAME_self_test()) {
        fprintf(stderr, "self-test failed\n");
        return 2;
    }
    while (scanf("%f", &x[read]) == 1)
        if (++read == FEATURES) {
            NAME_labels(x, 1, &label);
            printf("%d\n", (int)label);
            read = 0;
        }
    if (read || !feof(stdin)) {
        fprintf(stderr, "expected rows of %d numbers\n", FEATURES);
        return 1;
    }
    return 0;
}
#endif
"""


def to_c(netlist: Netlist, name: str = "lut_network") -> str:
    """The text of a C file whose functions begin with `name`. Raises ValueError."""
    a_name(name)
    pins = max([len(table.pins) for table in netlist.tables], default=0)
    samples = _samples(netlist)
    sizes = {
        "FEATURES": netlist.features, "COMPARATORS": len(netlist.comparators),
        "TABLES": len(netlist.tables), "CLASSES": len(netlist.outputs), "MOST_PINS": pins,
        "TESTED": TESTED, "SAMPLES": len(samples), "CHECKSUM": f"{checksum(netlist)}u",
    }  # fmt: skip
    lines = [f"/* {line} */" for line in head(netlist)]
    lines += ["#include <math.h>", "#include <stddef.h>", "#include <stdint.h>", ""]
    lines += [f"#define {key} {value}" for key, value in sizes.items()]
    words = [
        f"0x{t.entries >> 64 * w & 2**64 - 1:x}"
        for t in netlist.tables
        for w in range(max(1, 2 ** len(t.pins) // 64))
    ]
    arrays: dict[str, Iterable[object]] = {
        "uint32_t feature": (c.feature for c in netlist.comparators),
        "float threshold": (_float(c.threshold) for c in netlist.comparators),
        "uint8_t fan_in": (len(t.pins) for t in netlist.tables),
        "uint32_t pin": (pin for t in netlist.tables for pin in t.pins),
        "uint64_t entries": words,
        "uint32_t counted": (len(part) for part in netlist.outputs),
        "int32_t offset": netlist.offsets,
        "uint32_t output": (signal for part in netlist.outputs for signal in part),
        "float sample": (_float(value) for value in samples),
    }
    for what, values in arrays.items():
        lines += _array(what, [str(value) for value in values])
    return "\n".join(lines) + BODY.replace("NAME", name)


def checksum(netlist: Netlist) -> int:
    """Of all counts for the samples of the self-test (FNV-1a, 32 bits a count)."""
    values, drawn = np.array(_samples(netlist), np.float32), 1
    x = np.empty(TESTED * netlist.features, np.float32)
    for place in range(len(x)):
        drawn = (drawn * 1664525 + 1013904223) & MASK
        x[place] = values[(drawn >> 8) % len(values)]
    found: NDArray[np.int64] = netlist.counts(x.reshape(TESTED, netlist.features))
    total = 2166136261
    for count in found.ravel().tolist():
        total = ((total ^ count & MASK) * 16777619) & MASK
    return total


def _samples(netlist: Netlist) -> list[float]:
    """Inputs for the self-test: thresholds, which are not above themselves, and what is beside."""
    finite = [c.threshold for c in netlist.comparators if math.isfinite(c.threshold)]
    levels = np.unique(np.array([*finite, 0.0], np.float32))
    return [float(value) for value in np.append(levels, np.nextafter(levels, np.float32(np.inf)))]


def _float(value: float) -> str:
    """A float32 number to its last bit."""
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{value.hex()}f"


def _array(what: str, values: list[str]) -> list[str]:
    """A constant array; C has none without elements."""
    values = values or ["0"]
    rows = [", ".join(values[at : at + PER_LINE]) for at in range(0, len(values), PER_LINE)]
    return [f"static const {what}[] = {{", *(f"    {row}," for row in rows), "};"]
