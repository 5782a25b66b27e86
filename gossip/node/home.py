"""A home belongs to one running node at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from gossip.errors import SettingError


class HomeLock:
    """Holds HOME/lock; the system lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingError(f"--home {home}: cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise SettingError(
                f"--home {home}: another gossip-node is running there; give each node its own home"
            ) from None

    def release(self) -> None:
        """Let another node have the home."""
        os.close(self._file)


_HOPELESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
"""What no waiting mends. Room on a full disk may come back: with that a node begins, and goes on trying."""


def check_writable(home: Path) -> None:
    """Refuse a home in which nothing can be saved, before a run begins that would be lost.

    Raises:
        SettingError: it is read-only, immutable, or not ours.
    """
    for folder in (home, home / "checkpoints"):
        probe = folder / ".probe.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise SettingError(f"--home {home}: cannot be used: {folder} is no folder") from None
        except OSError as error:
            if error.errno in _HOPELESS:
                raise SettingError(f"--home {home}: cannot be written: {error.strerror}: {folder}") from None
        with contextlib.suppress(OSError):
            probe.unlink()
