"""Parameters by name, each a view of the one vector that the optimiser moves."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from eqprop_lab.kernel.arrays import Array


class Views(Mapping[str, Array]):
    """{name: array}; `views[name] = value` writes into the array, which stays where it lies.

    Another array under the name would be computed with and never trained. Raises KeyError for an
    unknown name, ValueError for a value of another shape.
    """

    def __init__(self, views: Mapping[str, Array]) -> None:
        self._views = dict(views)

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __setitem__(self, name: str, value: Array) -> None:
        if name not in self._views:
            near = difflib.get_close_matches(str(name), self._views, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self)}{hint}")
        view = self._views[name]
        if getattr(value, "shape", ()) not in ((), view.shape):
            raise ValueError(
                f"{name} has the shape {tuple(view.shape)}, got an array of {tuple(value.shape)}"
            )
        if value is not view:  # else it was written already, by views[name] *= 2
            view[...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return repr(self._views)


def check_shapes(parameters: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless every parameter is there, in its shape."""
    found = {name: tuple(value.shape) for name, value in parameters.items()}
    if found == shapes:
        return
    for name, shape in shapes.items():
        if name not in found:
            raise ValueError(f"parameters must hold {', '.join(shapes)}; {name} is missing")
        if found[name] != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {found[name]}")
