"""The import graph sees every kind of import, and names what runs up or in a circle."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tools.import_graph import circles, draw, forbidden, main


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of five files in which every arrow is allowed."""
    contents = {
        "__init__.py": "",
        "files.py": "import eqprop_lab.validation as v\nimport os, json",
        "validation.py": "",
        "models/__init__.py": "from eqprop_lab.models.conv import Conv\n",
        "models/conv.py": "from eqprop_lab import validation\nfrom torch import nn\n",
    }
    for name, text in contents.items():
        file = tmp_path / "eqprop_lab" / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "eqprop_lab"


def test_what_is_allowed_is_drawn_and_passes(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(package) == {
        "__init__.py": set(),
        "files.py": {"validation.py"},
        "models/__init__.py": {"models/conv.py"},
        "models/conv.py": {"validation.py"},
        "validation.py": set(),
    }
    assert main([str(package.parent)]) == 0
    out = capsys.readouterr().out
    assert "models          2  validation\n" in out
    assert "5 files, 3 arrows, 0 circles, 0 not allowed" in out


@pytest.mark.parametrize(
    "text",
    [
        "from eqprop_lab.models.conv import Conv",
        "from eqprop_lab.models import conv",
        "import eqprop_lab.models.conv",
        "from .models import conv",
        "def late():\n    from eqprop_lab.models.conv import Conv",
        "if TYPE_CHECKING:\n    from eqprop_lab.models.conv import Conv",
        "module = importlib.import_module('eqprop_lab.models.conv')",
    ],
)
def test_every_kind_of_import_counts(
    package: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (package / "validation.py").write_text(text, encoding="utf-8")
    assert forbidden(draw(package)) == ["validation.py -> models/conv.py"]
    assert circles(draw(package)) == [["models/conv.py", "validation.py", "models/conv.py"]]
    assert main([str(package.parent)]) == 1
    assert "not allowed: validation.py -> models/conv.py" in capsys.readouterr().out


def test_rooms_of_one_floor_do_not_import_each_other(package: Path) -> None:
    (package / "seeding.py").write_text("import eqprop_lab.files", encoding="utf-8")
    assert forbidden(draw(package)) == ["seeding.py -> files.py"]


def test_a_room_that_stands_apart_imports_what_is_named_for_it(package: Path) -> None:
    (package / "devices.py").write_text("", encoding="utf-8")
    (package / "regression.py").write_text("from eqprop_lab import files, devices")
    assert forbidden(draw(package)) == ["regression.py -> devices.py"]


def test_the_stub_of_a_lazy_room_says_what_it_imports(package: Path) -> None:
    (package / "models" / "__init__.py").write_text("", encoding="utf-8")
    (package / "models" / "conv.py").write_text("from eqprop_lab.models import Conv")
    stub = "from eqprop_lab.models.conv import Conv as Conv"
    (package / "models" / "__init__.pyi").write_text(stub, encoding="utf-8")
    assert draw(package)["models/__init__.py"] == {"models/conv.py"}
    (ring,) = circles(draw(package))
    assert set(ring) == {"models/__init__.py", "models/conv.py"}


def test_a_longer_circle_is_drawn_from_file_to_file(package: Path) -> None:
    (package / "models" / "first.py").write_text("import eqprop_lab.models.second")
    (package / "models" / "second.py").write_text("import eqprop_lab.models.third")
    (package / "models" / "third.py").write_text("import eqprop_lab.models.first")
    (ring,) = circles(draw(package))
    assert ring[0] == ring[-1]
    assert len(ring) == 4
    graph = draw(package)
    assert all(second in graph[first] for first, second in pairwise(ring))


def test_a_room_needs_a_floor(package: Path) -> None:
    (package / "attic.py").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="rooms without a floor .*: attic"):
        forbidden(draw(package))
