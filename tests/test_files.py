"""A file is replaced whole or not at all, where it lies and with the rights it has."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from eqprop_lab import EqPropTrainer, LoopedMLP
from eqprop_lab.files import check_target, checkout, nearest, replace_file, replace_text
from eqprop_lab.notebook import figures

Writer = Callable[[Path, str], object]
WRITERS: dict[str, Writer] = {
    "text": replace_text,
    "figures": lambda path, text: figures._replace(path, text.encode()),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda mask: (os.umask(mask), None)[1]
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failing_writer_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = replace_text(tmp_path / "new" / "a.txt", "old: ä")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replace_file(path, fail)
    assert path.read_text(encoding="utf-8") == "old: ä" and list(path.parent.iterdir()) == [path]
    assert replace_file(path, lambda file: file.write(b"new")).read_bytes() == b"new"


@writers
@pytest.mark.parametrize(
    ("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)]
)
def test_a_new_file_has_the_rights_the_user_gives_to_new_files(
    write: Writer, mask: int, expected: int, umask: Callable[[int], None], tmp_path: Path
) -> None:
    umask(mask)
    write(tmp_path / "a.txt", "x")
    assert mode(tmp_path / "a.txt") == expected


@writers
@pytest.mark.parametrize("rights", [0o600, 0o640, 0o755, 0o444])
def test_a_replaced_file_keeps_its_rights(write: Writer, rights: int, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(rights)
    write(path, "new")
    assert mode(path) == rights and path.read_text() == "new"


@writers
def test_a_symbolic_link_stays_and_what_it_names_is_written(write: Writer, tmp_path: Path) -> None:
    target, link, chain = (
        tmp_path / "store" / "a.txt",
        tmp_path / "link.txt",
        tmp_path / "chain.txt",
    )
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(Path("store") / "a.txt")
    chain.symlink_to(link)
    write(chain, "new")
    assert chain.is_symlink() and link.is_symlink() and target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]
    target.unlink()
    write(link, "again")
    assert link.is_symlink() and target.read_text() == "again"


@writers
def test_what_is_no_file_is_refused_and_stays(write: Writer, tmp_path: Path) -> None:
    loop, pipe, folder = tmp_path / "loop", tmp_path / "pipe", tmp_path / "folder"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    folder.mkdir()
    for path, code in ((loop, errno.ELOOP), (pipe, errno.EINVAL), (folder, errno.EISDIR)):
        with pytest.raises(OSError, match=path.name) as caught:
            write(path, "x")
        assert caught.value.errno == code and caught.value.filename == str(path)
    assert (
        loop.is_symlink()
        and pipe.is_fifo()
        and folder.is_dir()
        and len(list(tmp_path.iterdir())) == 3
    )


def test_a_target_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.rglob("*"))
    codes = {"loop": errno.ELOOP, "pipe": errno.EINVAL, "folder": errno.EISDIR}
    codes |= dict.fromkeys(("file/x", "file/new/x"), errno.ENOTDIR)
    for name, code in codes.items():
        with pytest.raises(OSError, match=name) as caught:
            check_target(tmp_path / name)
        assert caught.value.errno == code and caught.value.filename == str(tmp_path / name)
        with pytest.raises(OSError, match=name):
            replace_text(tmp_path / name, "x")
    good = [tmp_path / name for name in ("file", "folder/x", "new/folder/x")]
    for path in good:
        check_target(path)
    assert sorted(tmp_path.rglob("*")) == before and good[0].read_text() == "old"
    # whoever is root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "folder")
    check_target(good[0])
    for name in ("folder/x", "folder/new/x"):
        with pytest.raises(PermissionError, match=name) as caught:
            check_target(tmp_path / name)
        assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(
    ("write", "where"),
    # A figure does not wait for the disk.
    [
        (w, at)
        for name, w in WRITERS.items()
        for at in ("open", "fsync", "replace")
        if (name, at) != ("figures", "fsync")
    ],
)
def test_a_full_disk_is_told_with_the_path(
    write: Writer, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, where, full)
        with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'") as caught:
            write(path, "new")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_the_system_allows_and_one_with_a_pattern(tmp_path: Path) -> None:
    long = replace_text(tmp_path / ("n" * 255), "x")
    other, mine = tmp_path / ".a1.txt.old.part", tmp_path / ".a[1].txt.old.part"
    for leftover in (other, mine):
        leftover.write_text("part")
        os.utime(leftover, (1, 1))
    replace_text(tmp_path / "a[1].txt", "x")
    assert long.read_text() == "x" and other.exists() and not mine.exists()


SMALL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from eqprop_lab import ConvEqProp, EqPropTrainer, LoopedMLP
    from eqprop_lab.experiments.trained import info_keys, save_trained

    trainer = EqPropTrainer(LoopedMLP(64, 64, 10, seed=0))
    model = ConvEqProp(1, [16, 32], 10, image_size=8, seed=0)
    # The system refuses to let a file grow beyond this: a genuine failure in the middle of a write.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    info = dict.fromkeys(info_keys("ConvEqProp"), 0)
    for name, save in (
        ("c.pt", trainer.save_checkpoint),
        ("n.safetensors", lambda path: save_trained(model, path, info)),
    ):
        try:
            save(Path(sys.argv[1]) / name)
        except OSError as error:
            print(type(error).__name__, error.errno, error.filename)
"""


def test_a_checkpoint_and_a_network_that_do_not_fit_on_the_disk(tmp_path: Path, root: Path) -> None:
    for name in ("c.pt", "n.safetensors"):
        (tmp_path / name).write_text("old")
    command = [sys.executable, "-c", textwrap.dedent(SMALL_DISK), str(tmp_path)]
    child = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    expected = [f"OSError {errno.EFBIG} {tmp_path / name}" for name in ("c.pt", "n.safetensors")]
    assert child.stdout.splitlines() == expected and child.returncode == 0, child.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pt", "n.safetensors"]
    assert (tmp_path / "c.pt").read_text() == "old"


def test_a_checkpoint_saved_through_a_link_is_read_through_it(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "c.pt"
    link.symlink_to(tmp_path / "disk" / "real.pt")
    trainer = EqPropTrainer(LoopedMLP(8, 4, 2, seed=0))
    assert trainer.save_checkpoint(link) == link and link.is_symlink()
    other = EqPropTrainer(LoopedMLP(8, 4, 2, seed=1))
    other.load_checkpoint(link)
    assert torch.equal(other.model.W_in.weight, trainer.model.W_in.weight)


def test_the_nearest_folder_that_holds_something(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "here").touch()
    (deep / "here").touch()

    def holds(folder: Path) -> bool:
        return (folder / "here").exists()

    assert nearest(holds, deep) == deep and nearest(holds, tmp_path / "a") == tmp_path
    monkeypatch.chdir(tmp_path / "a")
    assert nearest(holds) == tmp_path and nearest(lambda folder: False) is None
    assert checkout() == root
