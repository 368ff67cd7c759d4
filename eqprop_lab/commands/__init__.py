"""Commands of `python -m eqprop_lab` that train and evaluate."""
