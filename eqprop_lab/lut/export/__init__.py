"""Hard networks as source text that needs nothing of this package: C and Verilog, the encoder
included.
"""

from eqprop_lab.lut.export.c_source import to_c
from eqprop_lab.lut.export.simulator import VerilogModule
from eqprop_lab.lut.export.verilog import to_testbench, to_verilog

__all__ = ["VerilogModule", "to_c", "to_testbench", "to_verilog"]
