"""The simulator of Verilog against Python's own integers, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from eqprop_lab.lut.export.parser import VerilogError
from eqprop_lab.lut.export.simulator import VerilogModule

A = np.random.default_rng(0).integers(64, size=50).tolist()
B = np.random.default_rng(1).integers(64, size=50).tolist()


def run(body: str, size: int = 6) -> list[int]:
    text = f"""module one (input wire [5:0] a, input wire [5:0] b, output wire [{size - 1}:0] y);
      {body}
    endmodule"""
    return VerilogModule(text)(a=A, b=B)["y"]


@pytest.mark.parametrize(
    ("expression", "size", "wanted"),
    [
        ("a + b", 6, lambda a, b: (a + b) % 64),
        ("a + b", 8, lambda a, b: a + b),  # as wide as what is driven
        ("a + b + 6'd3 + a", 9, lambda a, b: 2 * a + b + 3),
        ("a > b", 1, lambda a, b: int(a > b)),
        ("a > b ? a : b", 6, max),
        ("a & b | ~a", 6, lambda a, b: a & b | ~a % 64),
        ("a ^ b & 6'h0f", 6, lambda a, b: a ^ b & 15),
        ("~a", 8, lambda a, b: ~a % 256),  # wider before it is turned
        ("{a[5], b[3:1], 2'b10}", 6, lambda a, b: (a >> 5) << 5 | (b >> 1 & 7) << 2 | 2),
        ("{a, b}", 12, lambda a, b: a << 6 | b),
        ("a[b[0]]", 1, None),
        ("(a > 6'd9) + (b > 6'd9)", 2, lambda a, b: (a > 9) + (b > 9)),
        ("a + b > 6'd40", 1, lambda a, b: int((a + b) % 64 > 40)),  # no wider than its operands
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_expressions_are_those_of_integers(expression: str, size: int, wanted: object) -> None:
    if wanted is None:
        with pytest.raises(VerilogError, match="cannot be worked out"):
            run(f"assign y = {expression};", size)
        return
    found = run(f"assign y = {expression};", size)
    assert found == [wanted(a, b) for a, b in zip(A, B, strict=True)]  # type: ignore[operator]


def test_modules_with_parameters() -> None:
    text = """
    // a table, and two of them
    module lut #(parameter N = 1, parameter [2**N-1:0] INIT = 0)
      (input wire [N-1:0] a, output wire y);
      assign y = INIT[a];
    endmodule
    module two (input wire [2:0] x, output wire [1:0] y);
      wire p; lut #(.N(3), .INIT(8'h6a)) u0 (.a(x), .y(p));
      wire q; lut u1 (.a(p), .y(q));
      assign y = {q, p};
    endmodule"""
    words = VerilogModule(text)(x=list(range(8)))["y"]
    assert words == [0x6A >> k & 1 for k in range(8)]
    assert VerilogModule(text, "lut")(a=[0, 1, 1])["y"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("assign y = z;", "line 2: z is read before it is driven"),
        ("wire [5:0] z; assign y = z; assign z = a;", "z is read before"),
        ("assign y = a; assign y = b;", "y is driven twice"),
        ("wire a; assign y = b;", "line 2: a is declared twice"),
        ("assign a = b;", "a is no net"),
        ("", "module one drives no y"),
        ("assign y = a * b;", "'\\* b;' is not known"),
        ("assign y = a - b;", "- is known in constants only"),
        ("assign y = a[7:0];", r"a\[7:0\] of a word of 6 bits"),
        ("assign y = a[9];", "bit 9 of a word of 6 bits"),
        ("assign y = 4'd16;", "does not fit into 4 bits"),
        ("assign y = 4'b12;", "4'b12 is no number"),
        ("other u (.a(a), .y(y));", "there is no module other"),
        ("one u (.a(a), .y(y));", "other ports or parameters"),
        ("always y = a;", "expected"),
        ("assign y = a", "expected ;, got endmodule"),
        ("assign y = {a;", "expected ,, got ;"),
    ],
)
def test_what_is_refused_says_where(body: str, said: str) -> None:
    with pytest.raises(VerilogError, match=said):
        run(body)


def test_modules_and_inputs_that_do_not_fit() -> None:
    with pytest.raises(VerilogError, match="no module"):
        VerilogModule("// nothing")
    with pytest.raises(TypeError, match="text must be a str"):
        VerilogModule(3)  # type: ignore[arg-type]
    text = "module one (input wire [1:0] a, output wire y); assign y = a[1]; endmodule\n"
    with pytest.raises(VerilogError, match="module one is there twice"):
        VerilogModule(text + text)
    with pytest.raises(ValueError, match="name must be one of one"):
        VerilogModule(text, "two")
    module = VerilogModule(text)
    with pytest.raises(ValueError, match="inputs must be"):
        module(b=[1])
    with pytest.raises(ValueError, match="a takes words of 2 bits, got 0x4"):
        module(a=[4])
    assert module(a=[]) == {"y": []} and module(a=[2, 1]) == {"y": [1, 0]}
    pair = "module p (input wire a, input wire b, output wire y); assign y = a & b; endmodule"
    with pytest.raises(ValueError, match="as many samples"):
        VerilogModule(pair)(a=[0], b=[0, 1])
