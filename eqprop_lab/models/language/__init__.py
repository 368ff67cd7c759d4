"""Language models at a true equilibrium, one file a variant, and their ordinary twins."""
