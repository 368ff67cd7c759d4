"""The sources of the web edition, and the scripts that it brings along."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from eqprop_lab.course.masters import Master
from eqprop_lab.regression.parameters import tags
from eqprop_lab.regression.plan import find_notebooks
from tools.site import vendor
from tools.site.hosts import repository, run_elsewhere
from tools.site.pages import readable, write_sources
from tools.site.vendor import Package, VendorError, vendored

ROOT = Path(__file__).resolve().parents[2]
MASTERS = [Master.read(path) for path in find_notebooks(["03", "04"], ROOT)]


def test_a_page_has_outputs_and_no_solution() -> None:
    nb = readable(MASTERS[0], MASTERS)
    assert not any("solution" in tags(cell) for cell in nb.cells)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    pictures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 6 and all('alt="' in p.data["text/html"] for p in pictures)
    (quiz,) = (cell for cell in code if "quiz" in tags(cell))
    assert quiz.outputs == [] and "hide-input" in tags(quiz)


def test_links_to_what_has_no_page_are_plain() -> None:
    texts = "\n".join(cell.source for cell in readable(MASTERS[0], MASTERS).cells)
    assert "](04_looped_mlp.ipynb)" in texts
    assert "](02_spectral_norm.ipynb)" not in texts and "02 · Spectral norm" in texts


def test_links_in_outputs_lead_to_pages() -> None:
    masters = [Master.read(path) for path in find_notebooks(["00", "03"], ROOT)]
    code = [cell for cell in readable(masters[0], masters).cells if cell.cell_type == "code"]
    texts = [str(o.get("data", {}).get("text/markdown", "")) for c in code for o in c.outputs]
    assert "](03_two_phases_and_gradients.html)" in "".join(texts)
    assert ".ipynb" not in "".join(texts) and "07 · Five language models" in "".join(texts)


def test_sources_name_every_page(tmp_path: Path) -> None:
    (tmp_path / "mathjax").mkdir()
    write_sources(ROOT, MASTERS, tmp_path / "mathjax", tmp_path / "source")
    index = (tmp_path / "source" / "index.md").read_text("utf-8")
    assert "notebooks/03_two_phases_and_gradients\n" in index and "\ncourse/README\n" in index
    assert "notebooks/papers\n" in index
    assert len(list((tmp_path / "source" / "notebooks").iterdir())) == 3
    papers = (tmp_path / "source" / "notebooks" / "papers.md").read_text("utf-8")
    assert "| [04](04_looped_mlp.ipynb) `" in papers and "| 05 `" in papers
    assert (tmp_path / "source" / "conf.py").is_file()


def archive(folder: Path) -> Path:
    path = folder / "thing-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("package/a.js", "package/b/c.js", "package/d.js"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def test_a_package_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive(tmp_path)
    monkeypatch.setattr(vendor, "_packed", lambda package, place: made)
    with pytest.raises(VendorError, match="is another file than before"):
        vendored(Package("thing", "1.0.0", "other", ["a.js"]), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    total = base64.b64encode(hashlib.sha512(made.read_bytes()).digest()).decode()
    folder = vendored(Package("thing", "1.0.0", total, ["a.js", "b"]), tmp_path / "store")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.js"))
    assert found == ["a.js", "b/c.js"]
    monkeypatch.undo()
    again = Package("thing", "1.0.0", "not asked again", ["a.js", "b"])
    assert vendored(again, tmp_path / "store") == folder


def test_without_npm_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(VendorError, match="npm is needed once, to fetch thing 1.0.0"):
        vendored(Package("thing", "1.0.0", "", []), tmp_path)


@pytest.mark.parametrize(
    ("urls", "place"),
    [
        ("", ""),
        ('[project.urls]\nRepository = "https://github.com/some/thing.git"', "some/thing"),
        ('[project.urls]\nDocs = "https://x.org"', ""),
    ],
)
def test_a_place_to_run_is_named_once_it_is_known(tmp_path: Path, urls: str, place: str) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(f'[project]\nname = "x"\n{urls}\n', encoding="utf-8")
    assert repository(file) == place
    text = run_elsewhere(place, "03_two.ipynb")
    assert bool(text) is bool(place)
    if place:
        assert "/github/some/thing/blob/main/notebooks/03_two.ipynb)" in text
        assert "/gh/some/thing/main?labpath=notebooks%2F03_two.ipynb)" in text
        assert "%pip install" in text and "git+https://github.com/some/thing" in text


def test_an_address_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    text = '[project]\nname = "x"\n[project.urls]\nSource = "https://x.org/a/b"\n'
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="OWNER/NAME is needed, got 'https://x.org/a/b'"):
        repository(file)
