"""Verilog simulated in Python: it reads the text of a module and nothing else.

A wire is an integer with one bit for every sample, a word a list of wires, the lowest first; sums,
comparisons and choices are written out in and, or, exclusive or, as gates would. The part of
Verilog-2001 it knows is what combinational netlists of look-up tables are written in: modules with
parameters, wires, `assign`, instances, + > & | ^ ~ ?: {} and selections of bits. All else is
refused by its line: what is simulated is what a synthesis tool would read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eqprop_lab.lut.export.parser import Expression, Instance, Module, VerilogError, parsed

Word = list[int]


class VerilogModule:
    """A module of a Verilog text, the last one unless it is named.

    Raises VerilogError (a ValueError) naming the line, for what is not understood.
    """

    def __init__(self, text: str, name: str | None = None) -> None:
        self.modules = parsed(text)
        names = list(self.modules)
        if name is not None and name not in names:
            raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
        self.top = self.modules[names[-1] if name is None else name]

    def __call__(self, **inputs: Sequence[int]) -> dict[str, list[int]]:
        """Words at the outputs, for words at the inputs: of every port one a sample.

        Raises ValueError for other ports than those of the module, or words that are too wide.
        """
        if set(inputs) != set(self.top.inputs):
            raise ValueError(f"inputs must be {sorted(self.top.inputs)}, got {sorted(inputs)}")
        samples = {len(words) for words in inputs.values()}
        if len(samples) != 1:
            raise ValueError(f"all inputs must have as many samples, got {sorted(samples)}")
        count = samples.pop()
        found = _Run(self.modules, 2**count - 1)
        parameters = found.parameters(self.top, {})
        widths = {name: found.number(size, parameters) for name, size in self.top.inputs.items()}
        planes = {name: _planes(name, words, widths[name]) for name, words in inputs.items()}
        outputs = found.module(self.top, {}, planes)
        return {name: _words(word, count) for name, word in outputs.items()}


def _planes(name: str, words: Sequence[int], width: int) -> Word:
    """Words, one a sample, as wires: bit j of sample i becomes bit i of wire j."""
    for word in words:
        if not 0 <= word < 2**width:
            raise ValueError(f"{name} takes words of {width} bits, got {word:#x}")
    rows = [f"{word:0{width}b}"[::-1] for word in reversed(words)]
    return [int("".join(column), 2) for column in zip(*rows, strict=True)] or [0] * width


def _words(planes: Word, samples: int) -> list[int]:
    rows = [f"{plane:0{samples}b}"[::-1] for plane in reversed(planes)]
    return [int("".join(column), 2) for column in zip(*rows, strict=True)] if samples else []


class _Run:
    """All samples at once; `ones` has a 1 for each."""

    def __init__(self, modules: Mapping[str, Module], ones: int) -> None:
        self.modules, self.ones = modules, ones

    def parameters(self, module: Module, given: Mapping[str, Word]) -> dict[str, Word]:
        """Parameters of a module: given, or as it says."""
        names: dict[str, Word] = {}
        for name, (size, default) in module.parameters.items():
            width = 32 if size is None else self.number(size, names)
            value = given.get(name)
            names[name] = self.value(default, width, names) if value is None else _cut(value, width)
        return names

    def module(
        self, module: Module, given: Mapping[str, Word], ports: Mapping[str, Word]
    ) -> dict[str, Word]:
        """Outputs of a module with these parameters and inputs."""
        names = self.parameters(module, given)
        widths = {n: self.number(size, names) for n, size in module.inputs.items()}
        names |= {name: _cut(ports[name], width) for name, width in widths.items()}
        widths = {n: self.number(size, names) for n, size in module.nets.items()}
        for line, target, source in module.items:
            try:
                self.drive(target, source, names, widths)
            except VerilogError as error:
                raise VerilogError(f"line {line}: {error}") from error
        missing = [name for name in module.outputs if name not in names]
        if missing:
            raise VerilogError(f"module {module.name} drives no {', '.join(missing)}")
        return {name: names[name] for name in module.outputs}

    def drive(
        self,
        target: str | None,
        source: Expression | Instance,
        names: dict[str, Word],
        widths: Mapping[str, int],
    ) -> None:
        """Give a net, or the nets at an instance's outputs, what drives it."""
        if target is not None:
            assert isinstance(source, tuple)
            found = {target: self.value(source, widths[target], names)}
        else:
            assert isinstance(source, Instance)
            found = self.instance(source, names, widths)
        for name, word in found.items():
            if name in names:
                raise VerilogError(f"{name} is driven twice")
            names[name] = _cut(word, widths[name])

    def instance(
        self, one: Instance, names: Mapping[str, Word], widths: Mapping[str, int]
    ) -> dict[str, Word]:
        if one.module not in self.modules:
            raise VerilogError(f"there is no module {one.module}")
        module = self.modules[one.module]
        strange = set(one.parameters) - set(module.parameters)
        if strange or set(one.ports) != {*module.inputs, *module.outputs}:
            raise VerilogError(f"{one.module} has other ports or parameters than {one.name}")
        given = {n: self.value(e, self.size(e, names), names) for n, e in one.parameters.items()}
        inputs = {n: self.value(e, self.size(e, names), names)
                  for n, e in one.ports.items() if n in module.inputs}  # fmt: skip
        found = self.module(module, given, inputs)
        return {_net(one.ports[name], widths): word for name, word in found.items()}

    def number(self, expression: Expression, names: Mapping[str, Word] | None = None) -> int:
        """A constant expression as an integer: of widths, which may have powers and minus."""
        kind, *rest = expression
        if kind == "number":
            return int(rest[0])
        if kind == "name":
            word = (names or {}).get(rest[0])
            if word is None or any(bit not in (0, self.ones) for bit in word):
                raise VerilogError(f"{rest[0]} is no constant")
            return sum(bool(bit) << place for place, bit in enumerate(word))
        if kind in CONSTANT:
            left, right = (self.number(part, names) for part in rest)
            return CONSTANT[kind](left, right)
        raise VerilogError(f"{kind} cannot be worked out before simulation")

    def size(self, expression: Expression, names: Mapping[str, Word]) -> int:
        """Bits of an expression by itself."""
        kind, *rest = expression
        if kind == "number":
            return 32 if rest[1] is None else int(rest[1])
        if kind == "name":
            return len(_known(rest[0], names))
        if kind in ("bit", ">"):
            return 1
        if kind == "bits":
            return self.number(rest[1], names) - self.number(rest[2], names) + 1
        if kind == "{}":
            return sum(self.size(part, names) for part in rest)
        parts = rest[1:] if kind == "?" else rest
        return max(self.size(part, names) for part in parts)

    def value(self, expression: Expression, width: int, names: Mapping[str, Word]) -> Word:
        """An expression where so many bits are asked for; never fewer than its own inside."""
        width, wanted = max(width, self.size(expression, names)), width
        kind, *rest = expression
        found: Word
        if kind == "number":
            found = [self.ones if rest[0] >> bit & 1 else 0 for bit in range(width)]
        elif kind == "name":
            found = _known(rest[0], names)
        elif kind == "bit":
            found = [self.picked(_known(rest[0], names), rest[1], names)]
        elif kind == "bits":
            high, low = (self.number(part, names) for part in rest[1:])
            word = _known(rest[0], names)
            if not 0 <= low <= high < len(word):
                raise VerilogError(f"{rest[0]}[{high}:{low}] of a word of {len(word)} bits")
            found = word[low : high + 1]
        elif kind == "{}":
            found = []
            for part in reversed(rest):
                found = found + self.value(part, self.size(part, names), names)
        elif kind == ">":
            both = max(self.size(part, names) for part in rest)
            found = [self.greater(*(self.value(part, both, names) for part in rest))]
        else:
            found = self.wordwise(kind, rest, width, names)
        return (found + [0] * (width - len(found)))[:wanted]

    def wordwise(
        self, kind: str, parts: Sequence[Any], width: int, names: Mapping[str, Word]
    ) -> Word:
        """What works on all bits of words of one width."""
        if kind == "?":
            condition = self.value(parts[0], self.size(parts[0], names), names)
            which = 0
            for bit in condition:
                which |= bit
            yes, no = (self.value(part, width, names) for part in parts[1:])
            return [b ^ ((a ^ b) & which) for a, b in zip(yes, no, strict=True)]
        if kind not in ("~", "+", *BITWISE):
            raise VerilogError(f"{kind} is known in constants only")
        words = [self.value(part, width, names) for part in parts]
        if kind == "~":
            return [bit ^ self.ones for bit in words[0]]
        total = words[0]
        for word in words[1:]:
            total = _sum(total, word) if kind == "+" else _bitwise(kind, total, word)
        return total

    def picked(self, word: Word, place: Expression, names: Mapping[str, Word]) -> int:
        """word[place]: one bit of it, chosen by another word."""
        address = self.value(place, self.size(place, names), names)
        if len(word) != 2 ** len(address):
            constant = self.number(place, names)
            if constant >= len(word):
                raise VerilogError(f"bit {constant} of a word of {len(word)} bits")
            return word[constant]
        found = word
        for pin in address:
            found = [a ^ ((a ^ b) & pin) for a, b in zip(found[::2], found[1::2], strict=True)]
        return found[0]

    def greater(self, left: Word, right: Word) -> int:
        """left > right, from the lowest bit on: the highest bit that differs decides."""
        found = 0
        for a, b in zip(left, right, strict=True):
            found = (a & (b ^ self.ones)) | (found & ((a ^ b) ^ self.ones))
        return found


CONSTANT: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "**": lambda a, b: a**b,
}
BITWISE: dict[str, Callable[[int, int], int]] = {
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}


def _cut(word: Word, width: int) -> Word:
    return (word + [0] * (width - len(word)))[:width]


def _known(name: str, names: Mapping[str, Word]) -> Word:
    if name not in names:
        raise VerilogError(f"{name} is read before it is driven")
    return names[name]


def _net(expression: Expression, widths: Mapping[str, int]) -> str:
    """The net at an output of an instance."""
    if expression[0] != "name" or expression[1] not in widths:
        raise VerilogError("an output must be joined to a declared wire")
    return str(expression[1])


def _sum(left: Word, right: Word) -> Word:
    """Full adders, the carry of the last one lost."""
    total, carry = [], 0
    for a, b in zip(left, right, strict=True):
        half = a ^ b
        total.append(half ^ carry)
        carry = (a & b) | (half & carry)
    return total


def _bitwise(kind: str, left: Word, right: Word) -> Word:
    return [BITWISE[kind](a, b) for a, b in zip(left, right, strict=True)]
