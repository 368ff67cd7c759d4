"""Answers to the exercises of notebook 11 as learners give them."""

from __future__ import annotations

import torch
from torch import Tensor

from eqprop_lab.lut.multilinear import multilinear
from tests.course.answers import right, wrong

# --- thermometer


def ends(train: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of every feature, (F, 1)."""
    return train.amin(0)[:, None], train.amax(0)[:, None]


def rising(train: Tensor, num_bits: int, parts: int) -> Tensor:
    """num_bits thresholds (F, b) at multiples of a part of the range."""
    low, high = ends(train)
    return low + torch.arange(1, num_bits + 1) / parts * (high - low)


def row(bits: Tensor) -> Tensor:
    return bits.double().flatten(1)


@wrong("thermometer", "a bit is x > t, not x >= t")
def reached(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    return row(x.unsqueeze(2) >= rising(train, num_bits, num_bits + 1))


@wrong("thermometer", "the range is cut into b + 1 parts")
def last_one_at_the_top(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    return row(x.unsqueeze(2) > rising(train, num_bits, num_bits))


@wrong("thermometer", "not b - 1")
def linspace_of_ends(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    return row(x.unsqueeze(2) > rising(train, num_bits, num_bits - 1))


@wrong("thermometer", "all bits of one feature first")
def bit_by_bit(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    thresholds = rising(train, num_bits, num_bits + 1)
    return torch.cat([(x > t).double() for t in thresholds.T], 1)


@wrong("thermometer", "the lowest threshold comes first")
def from_the_top(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    return row(x.unsqueeze(2) > rising(train, num_bits, num_bits + 1).fliplr())


@wrong("thermometer", "thresholds come from train, not from x")
def fitted_on_what_is_encoded(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    return row(x.unsqueeze(2) > rising(x, num_bits, num_bits + 1))


@wrong("thermometer", "has every feature its own thresholds")
def one_range_for_all(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    both = torch.cat([train, 2 * train])
    return row(x.unsqueeze(2) > rising(both.reshape(-1, 1), num_bits, num_bits + 1))


@wrong("thermometer", "shape")
def not_in_a_row(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    return (x.unsqueeze(2) > rising(train, num_bits, num_bits + 1)).double()


@wrong("thermometer", "it prints its answer")
def printed(train: Tensor, x: Tensor, num_bits: int) -> None:
    print(row(x.unsqueeze(2) > rising(train, num_bits, num_bits + 1)))


@wrong("thermometer", "uses Thermometer; do it without")
def of_the_package(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    from eqprop_lab.lut.encoders import Thermometer

    return Thermometer(num_bits).fit(train).encode(x)


@right("thermometer")
def feature_by_feature(train: Tensor, x: Tensor, num_bits: int) -> Tensor:
    found = []
    for seen, column in zip(train.T, x.T, strict=True):
        low, high = seen.min(), seen.max()
        for i in range(1, num_bits + 1):
            found.append((column > low + i * (high - low) / (num_bits + 1)).double())
    return torch.stack(found, 1)


# --- soft_layer


def mixed(pins: Tensor, table: Tensor) -> Tensor:
    """(B, O) of pins (n, O, B) and tables (O, 2^n), one pin after another from the lowest."""
    table = table.unsqueeze(2)
    for pin in pins:
        table = table[:, 0::2] * (1 - pin.unsqueeze(1)) + table[:, 1::2] * pin.unsqueeze(1)
    return table[:, 0].T


@wrong("soft_layer", "pin 0 is the lowest bit of the address")
def highest_first(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return mixed(x.T[index].flip(0), torch.sigmoid(logits / temperature))


@wrong("soft_layer", "a pin at 1 reads the upper half")
def halves_swapped(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return mixed(1 - x.T[index], torch.sigmoid(logits / temperature))


@wrong("soft_layer", "these are hard bits")
def looked_up(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return mixed(x.T[index].round(), torch.sigmoid(logits / temperature))


@wrong("soft_layer", "the temperature is missing")
def no_temperature(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return mixed(x.T[index], torch.sigmoid(logits))


@wrong("soft_layer", "logits are divided by the temperature")
def times_temperature(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return mixed(x.T[index], torch.sigmoid(logits * temperature))


@wrong("soft_layer", "first the sigmoid of every entry")
def sigmoid_at_the_end(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return torch.sigmoid(mixed(x.T[index], logits / temperature))


@wrong("soft_layer", "transposed")
def images_last(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return mixed(x.T[index], torch.sigmoid(logits / temperature)).T


@wrong("soft_layer", "does every pin read the column")
def columns_in_order(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    index = torch.arange(index.numel()).view_as(index) % x.shape[1]
    return mixed(x.T[index], torch.sigmoid(logits / temperature))


@wrong("soft_layer", "uses multilinear; do it without")
def package_layer(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    return multilinear(x.T[index], torch.sigmoid(logits / temperature)).T


@right("soft_layer")
def sum_over_addresses(x: Tensor, index: Tensor, logits: Tensor, temperature: float) -> Tensor:
    p, total = torch.sigmoid(logits / temperature), torch.zeros(len(x), len(logits)).double()
    for a in range(logits.shape[1]):
        chance = torch.ones_like(total)
        for j, columns in enumerate(index):
            chance = chance * (x[:, columns] if a >> j & 1 else 1 - x[:, columns])
        total = total + p[:, a] * chance
    return total


# --- slopes_of_a_table


def chances(x: Tensor) -> Tensor:
    """Chance of every address, (2^n,)."""
    found = torch.ones(1, dtype=x.dtype)
    for one in x:
        found = torch.cat([found * (1 - one), found * one])
    return found


def both(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The right slopes."""
    p = torch.sigmoid(logits / temperature)
    of_x = []
    for j in range(len(x)):
        high, low = x.clone(), x.clone()
        high[j], low[j] = 1.0, 0.0
        of_x.append((chances(high) - chances(low)) @ p)
    return torch.stack(of_x), p * (1 - p) * chances(x) / temperature


@wrong("slopes_of_a_table", "do not round them")
def slopes_on_bits(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return both(x.round(), logits, temperature)


@wrong("slopes_of_a_table", "the sigmoid is missing")
def slope_in_p(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return both(x, logits, temperature)[0], chances(x)


@wrong("slopes_of_a_table", "z is divided by T, and so is its slope")
def without_one_over_t(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    of_x, of_z = both(x, logits, temperature)
    return of_x, of_z * temperature


@wrong("slopes_of_a_table", "pin 0 is the lowest bit")
def other_end_first(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    of_x, of_z = both(x.flip(0), logits, temperature)
    return of_x.flip(0), of_z


@wrong("slopes_of_a_table", "is the slope in x the difference of both ends")
def against_the_present(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    p = torch.sigmoid(logits / temperature)
    of_x = []
    for j in range(len(x)):
        high = x.clone()
        high[j] = 1.0
        of_x.append((chances(high) - chances(x)) @ p)
    return torch.stack(of_x), both(x, logits, temperature)[1]


@wrong("slopes_of_a_table", "sign")
def low_minus_high(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    of_x, of_z = both(x, logits, temperature)
    return -of_x, of_z


@wrong("slopes_of_a_table", "changes its argument 1 in place")
def in_place(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    found = both(x.clone(), logits, temperature)
    x[0] = 1.0
    return found


@wrong("slopes_of_a_table", "uses grad; do it without")
def autograd(x: Tensor, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    x, z = x.clone().requires_grad_(True), logits.clone().requires_grad_(True)
    value = chances(x) @ torch.sigmoid(z / temperature)
    of_x, of_z = torch.autograd.grad(value, (x, z))
    return of_x, of_z


@right("slopes_of_a_table")
def by_differences_of_the_table(
    x: Tensor, logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    p, n = torch.sigmoid(logits / temperature), len(x)
    of_x = []
    for j in range(n):
        others = chances(torch.cat([x[:j], x[j + 1 :]]))
        halves = p.view(2 ** (n - 1 - j), 2, 2**j)
        of_x.append(others @ (halves[:, 1] - halves[:, 0]).flatten())
    return torch.stack(of_x), p * (1 - p) * chances(x) / temperature
