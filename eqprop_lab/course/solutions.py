"""The solution of an exercise as a learner would have written it."""

from __future__ import annotations

from eqprop_lab.course.masters import ExerciseCells, Master
from eqprop_lab.course.statements import needed, statements


def solution_of(master: Master, exercise: ExerciseCells) -> str:
    """The solution's function under the name of the stub's, and the imports that it rests on."""
    name = f"solved_{exercise.name}"
    own = needed({name}, statements(master.nb.cells[exercise.solution].source))
    around = master.sources("setup", "exercise-context")
    imports = [s for text in around for s in statements(text) if s.is_import]
    used = {used for statement in own for used in statement.uses}
    texts = [s.text for s in (*needed(used, imports), *own) if "__future__" not in s.text]
    return "\n".join(texts).replace(name, exercise.name)
