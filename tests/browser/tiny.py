"""Small notebooks for the tests of this folder: an explorer that fails, a cockpit that fails, a
cell that fails.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
}

EXPLORER = """from eqprop_lab.notebook import Explorer, Slider

class Reciprocal(Explorer):
    title = "Reciprocal"
    controls = [Slider("x", 0, 9, 1, 1, "number x")]

    def compute(self, x):
        return 1 / x

    def draw(self, figure, data):
        figure.subplots().bar(["1/x"], [data])

    def describe(self, data, x):
        return f"One bar of height {data:.3f}, the reciprocal of {x}."

Reciprocal()"""

COCKPIT = """from eqprop_lab.notebook import TrainingCockpit

def without_data(values):
    raise OSError("the data set is not there")

TrainingCockpit(without_data, epochs=3)"""

FIGURE = """from eqprop_lab.notebook import new_figure, show

figure = new_figure(4, 2)
figure.subplots().plot([0, 1], [0, 1])
alt = 'One line that rises from 0 to 1 & is called "straight".'
show(figure, "nb00_line", alt, "A *line*, $x$.")"""

RAISING = 'raise RuntimeError("this cell raises")'


def write_notebook(path: Path, *sources: str, tag: str = "explorer") -> Path:
    """A notebook with a heading and one code cell per source."""
    cells = [new_code_cell(source, metadata={"tags": [tag]}) for source in sources]
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Tiny"), *cells], metadata=KERNEL), path)
    return path
