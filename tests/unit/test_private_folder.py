"""Folders with keys do not outlive whoever made them."""

from __future__ import annotations

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
