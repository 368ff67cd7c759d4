"""Reading the part of Verilog-2001 that combinational netlists are written in.

    module NAME #(parameter [..] P = 1) (input wire [..] a, output wire [..] y);
      wire [..] w = EXPRESSION;      assign w = EXPRESSION;
      OTHER #(.P(4)) name (.a(EXPRESSION), .y(w));
    endmodule

An expression is a tuple: what it is, then its parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Expression = tuple[Any, ...]
ONE_BIT: Expression = ("number", 1, None)
TOKEN = re.compile(
    r"\s+|//[^\n]*|(?P<number>\d+'[bdh][0-9a-fA-F]+|\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<symbol>\*\*|[#().,;:\[\]{}=+\->&|^~?])"
)
LEVELS = ("|", "^", "&", ">", "+-", "**")  # binary operators, the loosest first
BASES = {"b": 2, "d": 10, "h": 16}


class VerilogError(ValueError):
    """A text that is not of the part of Verilog known here, or drives its nets wrongly."""


@dataclass(frozen=True)
class Instance:
    """One use of a module: expressions at its parameters and ports."""

    module: str
    name: str
    parameters: dict[str, Expression]
    ports: dict[str, Expression]


@dataclass
class Module:
    """Sizes are expressions. items: (line, net or None, what drives it), as in the text."""

    name: str
    parameters: dict[str, tuple[Expression | None, Expression]] = field(default_factory=dict)
    inputs: dict[str, Expression] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    nets: dict[str, Expression] = field(default_factory=dict)
    items: list[tuple[int, str | None, Expression | Instance]] = field(default_factory=list)


def parsed(text: str) -> dict[str, Module]:
    """The modules of a text by name, in its order. Raises VerilogError naming the line."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    reader = _Reader(text)
    found: dict[str, Module] = {}
    while not reader.at_end():
        module = reader.module()
        if module.name in found:
            raise reader.error(f"module {module.name} is there twice")
        found[module.name] = module
    if not found:
        raise VerilogError("there is no module in the text")
    return found


def _tokens(text: str) -> list[tuple[int, str, str]]:
    """(line, kind, text) of every token; the last one is the end."""
    found, at, line = [], 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise VerilogError(f"line {line}: {text[at : at + 20].splitlines()[0]!r} is not known")
        if match.lastgroup:
            found.append((line, match.lastgroup, match[0]))
        line += match[0].count("\n")
        at = match.end()
    return [*found, (line, "end", "the end")]


class _Reader:
    """Walks along the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.tokens, self.at = _tokens(text), 0

    def at_end(self) -> bool:
        return self.tokens[self.at][1] == "end"

    def error(self, message: str) -> VerilogError:
        return VerilogError(f"line {self.tokens[self.at][0]}: {message}")

    def ahead(self, *texts: str) -> bool:
        return self.tokens[self.at][2] in texts

    def take(self, *texts: str) -> str:
        """The next token, which must be one of these."""
        if not self.ahead(*texts):
            raise self.error(f"expected {' or '.join(texts)}, got {self.tokens[self.at][2]}")
        self.at += 1
        return self.tokens[self.at - 1][2]

    def took(self, text: str) -> bool:
        """Whether the next token was this one; it is taken then."""
        found = self.ahead(text)
        self.at += found
        return found

    def kind(self, kind: str) -> str:
        if self.tokens[self.at][1] != kind:
            raise self.error(f"expected a {kind}, got {self.tokens[self.at][2]}")
        self.at += 1
        return self.tokens[self.at - 1][2]

    def module(self) -> Module:
        self.take("module")
        module = Module(self.kind("name"))
        if self.took("#"):
            self.take("(")
            while not self.took(")"):
                self.take("parameter")
                size = self.size() if self.ahead("[") else None
                name = self.kind("name")
                self.take("=")
                module.parameters[name] = size, self.expression()
                self.between(")")
        self.take("(")
        while not self.took(")"):
            self.port(module)
            self.between(")")
        self.take(";")
        while not self.took("endmodule"):
            self.item(module)
        return module

    def between(self, end: str) -> None:
        """A comma, unless the list ends."""
        if not self.ahead(end):
            self.take(",")

    def port(self, module: Module) -> None:
        direction = self.take("input", "output")
        self.take("wire")
        size, name = self.size(), self.kind("name")
        self.new(module, name)
        if direction == "input":
            module.inputs[name] = size
        else:
            module.outputs.append(name)
            module.nets[name] = size

    def size(self) -> Expression:
        """[high:0] as the expression high + 1; one bit where there is none."""
        if not self.took("["):
            return ONE_BIT
        high = self.expression()
        self.take(":")
        self.take("0")
        self.take("]")
        return ("+", high, ONE_BIT)

    def new(self, module: Module, name: str) -> None:
        if name in module.inputs or name in module.nets or name in module.parameters:
            raise self.error(f"{name} is declared twice")

    def item(self, module: Module) -> None:
        line = self.tokens[self.at][0]
        if self.took("wire"):
            size, name = self.size(), self.kind("name")
            self.new(module, name)
            module.nets[name] = size
            if self.took("="):
                module.items.append((line, name, self.expression()))
        elif self.took("assign"):
            name = self.kind("name")
            if name not in module.nets:
                raise self.error(f"{name} is no net that can be assigned")
            self.take("=")
            module.items.append((line, name, self.expression()))
        else:
            module.items.append((line, None, self.instance()))
        self.take(";")

    def instance(self) -> Instance:
        module = self.kind("name")
        parameters = self.connections() if self.took("#") else {}
        return Instance(module, self.kind("name"), parameters, self.connections())

    def connections(self) -> dict[str, Expression]:
        """(.name(EXPRESSION), ...)"""
        found: dict[str, Expression] = {}
        self.take("(")
        while not self.took(")"):
            self.take(".")
            name = self.kind("name")
            if name in found:
                raise self.error(f"{name} is connected twice")
            self.take("(")
            found[name] = self.expression()
            self.take(")")
            self.between(")")
        return found

    def expression(self) -> Expression:
        condition = self.binary(0)
        if not self.took("?"):
            return condition
        yes = self.expression()
        self.take(":")
        return ("?", condition, yes, self.expression())

    def binary(self, level: int) -> Expression:
        """Operators of one level, from the left; a sum is one expression of all its terms."""
        if level == len(LEVELS):
            return self.unary()
        found = self.binary(level + 1)
        signs = (LEVELS[level],) if LEVELS[level] != "+-" else ("+", "-")
        while self.ahead(*signs):
            sign = self.take(*signs)
            right = self.binary(level + 1)
            joined = found[0] == sign == "+" and len(found) > 2
            found = (*found, right) if joined else (sign, found, right)
        return found

    def unary(self) -> Expression:
        if self.took("~"):
            return ("~", self.unary())
        if self.took("("):
            inner = self.expression()
            self.take(")")
            return inner
        if self.took("{"):
            parts = [self.expression()]
            while not self.took("}"):
                self.take(",")
                parts.append(self.expression())
            return ("{}", *parts)
        if self.tokens[self.at][1] == "number":
            return self.number()
        return self.selected(self.kind("name"))

    def selected(self, name: str) -> Expression:
        if not self.took("["):
            return ("name", name)
        place = self.expression()
        if self.took(":"):
            low = self.expression()
            self.take("]")
            return ("bits", name, place, low)
        self.take("]")
        return ("bit", name, place)

    def number(self) -> Expression:
        text = self.kind("number")
        if "'" not in text:
            return ("number", int(text), None)
        size, digits = text.split("'")
        try:
            value = int(digits[1:], BASES[digits[0]])
        except ValueError as error:
            raise self.error(f"{text} is no number") from error
        if value >> int(size):
            raise self.error(f"{text} does not fit into {size} bits")
        return ("number", value, int(size))
