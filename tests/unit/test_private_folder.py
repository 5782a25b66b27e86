"""Folders with keys do not outlive whoever made them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from scenarios.private_folder import HELD, private_folder

MAKER = """
import os, sys
from scenarios.private_folder import private_folder
with private_folder("law-") as folder:
    (folder / "identity.pem").write_text("key")
    print(folder, flush=True)
    sys.stdin.read()
"""

KILLED = """
import os, signal, sys
from scenarios.private_folder import private_folder
whose, removals = sys.argv[1], int(sys.argv[2])
def count(event, arguments):
    global removals
    if event in ("os.remove", "os.rmdir") and not str(arguments[0]).endswith(".tmp"):
        removals -= 1
        if removals == 0:
            os.kill(os.getpid(), signal.SIGKILL)
if whose == "another's":
    sys.addaudithook(count)
with private_folder("law-") as folder:
    for place in range(3):
        (folder / f"peer-{place}").mkdir()
        (folder / f"peer-{place}" / "identity.pem").write_text("key")
        (folder / f"identity-{place}.pem").write_text("key")
    if whose == "nobody's":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
"""
"""Is killed within its folder, or before it has removed so many of the files of its own or of another's folder."""


def killed(folder: Path, whose: str, removals: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, whose, str(removals)], env={**os.environ, "TMPDIR": str(folder)}
    )
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_maker_left_goes_with_the_next_folder_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    foreign = tmp_path / "law-without-a-lock"
    foreign.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", MAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as maker:
        assert maker.stdout is not None
        left = Path(maker.stdout.readline().strip())
        with private_folder("law-") as mine:
            assert (left / "identity.pem").exists()  # its maker lives
            assert mine.stat().st_mode & 0o077 == 0
        assert not mine.exists()
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    assert (left / "identity.pem").exists()
    with private_folder("law-") as mine:
        assert not left.exists()
        assert (mine / HELD).exists()
    assert list(tmp_path.iterdir()) == [foreign]


@pytest.mark.parametrize("removals", [1, 3, 6, 9, 10, 11])
def test_who_is_killed_while_removing_leaves_no_key_that_the_next_does_not_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed(tmp_path, "own", removals)
    with private_folder("law-"):
        pass
    assert not list(tmp_path.rglob("identity*"))
    killed(tmp_path, "nobody's", 1)
    assert len(list(tmp_path.rglob("identity*"))) == 6
    killed(tmp_path, "another's", removals)
    with private_folder("law-"):
        pass
    assert not list(tmp_path.rglob("identity*"))


def test_what_a_node_of_a_killed_maker_still_writes_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed(tmp_path, "nobody's", 1)
    with monkeypatch.context() as busy:
        busy.setattr("scenarios.private_folder.shutil.rmtree", lambda *_, **__: None)
        with private_folder("law-") as mine:
            left = [folder for folder in tmp_path.iterdir() if folder != mine]
            assert (left[0] / HELD).exists()
    with private_folder("law-"):
        assert not left[0].exists()


def test_a_folder_can_be_had_where_nothing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", flock)
    with private_folder("law-") as mine:
        (mine / "identity.pem").write_text("key")
        with private_folder("law-"):
            assert (mine / "identity.pem").exists()
    assert list(tmp_path.iterdir()) == []


def test_links_and_what_they_lead_to_are_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / HELD).touch()
    (theirs / "kept").touch()
    (tmp_path / "law-link").symlink_to(theirs)
    locked = tmp_path / "law-locked"
    locked.mkdir()
    (locked / HELD).symlink_to(theirs / HELD)
    with private_folder("law-") as mine:
        (mine / "out").symlink_to(theirs)
    assert sorted(path.name for path in theirs.iterdir()) == [HELD, "kept"]
    assert locked.exists()
