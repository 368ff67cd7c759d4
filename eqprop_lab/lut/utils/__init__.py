"""How parameters of nodes begin, and what may be added to the cost of a training."""
