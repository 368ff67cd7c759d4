"""An EqProp engine on arrays: no autograd, no torch, memory that does not grow with the steps.

a <- W_rec h + u - nudge,    h <- tanh(a):    the loop of LoopedMLP on NumPy or CuPy arrays
"""

from eqprop_lab.kernel.engine import EqPropKernel as EqPropKernel
