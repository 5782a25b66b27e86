"""A run whose first process is killed, as by a kernel that is out of memory."""

from __future__ import annotations

import os
import signal

from scenarios.clusters.runs import Run
from scenarios.standings import Standings, Told


def do(run: Run, standings: Standings | None) -> None:
    """Die at the first time of each folder, and leave a file in it at the second."""
    if not run.folder.exists():
        if standings is not None:
            Told(standings.file(run.folder)).step("about to be killed")
        run.folder.mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)
    (run.folder / "done").touch()
