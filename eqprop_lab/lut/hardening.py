"""Some layers hard, the others soft: where a network loses what it could do in training.

soft, soft, soft  ->  hard, soft, soft  ->  hard, hard, soft  ->  hard, hard, hard
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from eqprop_lab.lut.base_model import BaseLUTModel
from eqprop_lab.validation import real, shown


@contextmanager
def hardened(
    model: BaseLUTModel, layers: Collection[int], temperature: float | None = None
) -> Iterator[None]:
    """Inside, `model.eval()` looks those layers up and computes the relaxation of the others.

    layers: numbers from 0. temperature: of the soft ones, None: the model's own; positive.
    Raises: TypeError for what is no LUT network; ValueError naming the argument, and for a
    temperature that its nodes do not have.
    """
    if not isinstance(model, BaseLUTModel):
        raise TypeError(f"model must be a BaseLUTModel, got {type(model).__name__}")
    there = model.lut_layers()
    for number in layers:
        if type(number) is not int or not 0 <= number < len(there):
            raise ValueError(
                f"layers must be numbers from 0 to {len(there) - 1}, got {shown(number)}"
            )
    heat = model.runtime.temperature
    if temperature is not None:
        heat = real("temperature", temperature, above=0.0)
    settings = replace(model.runtime, temperature=heat)
    for layer in there:
        layer.nodes.check(settings)
    try:
        for number, layer in enumerate(there):
            mode = "threshold" if number in layers else "expectation"
            layer.use(replace(settings, eval_mode=mode), layer.seed)
        yield
    finally:
        model.on_runtime_update()
