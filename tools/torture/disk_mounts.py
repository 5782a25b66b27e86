"""Small disks under a home, which become full or read-only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from disk_damages import NotPossible


@contextmanager
def small_disk(home: Path, *, kilobytes: int) -> Iterator[bool]:
    """Put a small disk of its own under a home; say whether that was possible."""
    aside = home.with_name("aside")
    home.rename(aside)
    home.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "torture", str(home)]
    try:
        mounted = subprocess.run(mount, capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        mounted = False
    shutil.copytree(aside, home, dirs_exist_ok=True)
    shutil.rmtree(aside)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(home)], capture_output=True, timeout=10, check=False)


def fill(home: Path) -> None:
    file = os.open(home / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, bytes(512))
    os.close(file)


def remount(option: str) -> Callable[[Path], None]:
    def do(home: Path) -> None:
        done = subprocess.run(
            ["mount", "-o", f"remount,{option}", str(home)], capture_output=True, timeout=10, check=False
        )
        if done.returncode:
            raise NotPossible("it cannot be mounted anew")

    return do
