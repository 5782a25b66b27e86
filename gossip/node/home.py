"""A home belongs to one running node at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from gossip.errors import SettingError

LOCK, CHECKPOINTS = "lock", "checkpoints"


class HomeLock:
    """Holds HOME/lock; the system lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._made: list[Path] = []
        """Folders that were not there, the home first."""
        while True:
            try:
                self._made += [each for each in (home, *home.parents) if not each.exists()]
                home.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._file = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                self._leave_nothing()
                raise SettingError(f"--home {home}: cannot be used: {error.strerror}") from None
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                raise SettingError(
                    f"--home {home}: another gossip-node is running there; give each node its own home"
                ) from None
            if self._is_there():
                return
            os.close(self._file)  # whoever made it has taken it away since we opened it

    def release(self) -> None:
        """Let another node have the home; of one that was not there, and to which nothing came, nothing stays."""
        if self._made:
            self._leave_nothing()
        os.close(self._file)

    def _is_there(self) -> bool:
        """Whether what we hold is what the next one would open."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._file), (self._home / LOCK).stat())
        return False

    def _leave_nothing(self) -> None:
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                (self._home / CHECKPOINTS).rmdir()  # which it does with an empty one only
            if self._home.exists() and {path.name for path in self._home.iterdir()} <= {LOCK}:
                (self._home / LOCK).unlink(missing_ok=True)
            for folder in dict.fromkeys(self._made):
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()


_HOPELESS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
"""What no waiting mends. Room on a full disk may come back: with that a node begins, and goes on trying."""


def check_writable(home: Path) -> None:
    """Refuse a home in which nothing can be saved, before a run begins that would be lost.

    Raises:
        SettingError: it is read-only, immutable, or not ours.
    """
    for folder in (home, home / CHECKPOINTS):
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
