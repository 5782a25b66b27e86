"""The runs of trials: ordinary runs of the virtual engine, several at a time, of which only the summary is kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

from gossip.errors import GossipError
from scenarios.clusters.local import one_thread
from scenarios.clusters.runs import Run as SweepRun
from scenarios.errors import FAILED, RunFailed
from scenarios.run_folder import read_summary
from scenarios.sweep import is_done

ENDING_S = 5.0
"""A process that was told to end is waited for so long."""


@dataclass(frozen=True, slots=True)
class Run:
    """One seed of a trial."""

    scenario: str
    settings: tuple[str, ...]
    seed: int
    folder: Path | None = None
    """Where the run is kept; None: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is kept of it."""

    seed: int
    score: float | None
    """Mean of the honest peers' own models at the end."""
    worst: float | None
    megabytes: float
    seconds: float
    error: str | None = None
    exit_code: int = 0
    """Of the error."""


Outcome: TypeAlias = Callable[[], Measured]
"""Waits for a run, and returns what was measured."""

Workers: TypeAlias = Callable[[Sequence[Run]], list[Outcome]]
"""Begins runs."""


def measure(run: Run, elsewhere: Path) -> Measured:
    """Do a run, unless it is done, and return what is kept of it; a mistake in its settings is told there.

    A run that is not kept writes below the folder `elsewhere`.
    """
    began = time.monotonic()
    try:
        summary = _summary(run, elsewhere)
    except GossipError as error:
        return Measured(
            seed=run.seed,
            score=None,
            worst=None,
            megabytes=0.0,
            seconds=time.monotonic() - began,
            error=str(error),
            exit_code=int(getattr(error, "exit_code", FAILED)),
        )
    score, wrong = summary["score"]["mean"], None
    if summary["score"].get("unknown"):
        # The others' mean would be all the better for it.
        score, wrong = None, f"{summary['score']['unknown']} peers have no finite score: they diverged"
    elif score is None:
        wrong = "no peer was left to be measured"
    return Measured(
        seed=run.seed,
        score=score,
        worst=summary["score"]["worst"],
        megabytes=summary["bytes"]["total"] / 1e6,
        seconds=time.monotonic() - began,
        error=wrong,
        exit_code=0 if wrong is None else FAILED,
    )


def _summary(run: Run, elsewhere: Path) -> dict[str, Any]:
    from scenarios.api import run as run_scenario

    if run.folder is not None and is_done(
        SweepRun(run.scenario, "virtual", run.settings, run.seed, run.folder)
    ):
        found: dict[str, Any] = read_summary(run.folder)
        return found
    with tempfile.TemporaryDirectory(dir=elsewhere) as temporary:
        return run_scenario(
            run.scenario,
            engine="virtual",
            seed=run.seed,
            overrides=run.settings,
            out=run.folder or Path(temporary) / "run",
            force=True,
            report=False,
        ).summary


@contextmanager
def workers(jobs: int) -> Iterator[Workers]:
    """Yield what begins runs, `jobs` at a time; with one, in this process when they are waited for.

    Leaving early ends the runs in hand.
    """
    # Removed here, because a process that is ended removes nothing.
    with tempfile.TemporaryDirectory(prefix="gossip-tune-", ignore_cleanup_errors=True) as name:
        elsewhere = Path(name)
        if jobs == 1:
            yield lambda runs: [partial(measure, run, elsewhere) for run in runs]
            return
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin)
        try:
            yield lambda runs: [partial(_wait, pool.submit(measure, run, elsewhere)) for run in runs]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
                child.join(ENDING_S)
            raise
        pool.shutdown()


def jobs_at_a_time(wanted: int | None, runs: int) -> int:
    """Return how many runs to do at a time: as many as there are cores, unless it is said or there are fewer."""
    return max(1, min(wanted or os.cpu_count() or 1, runs))


def _wait(future: Future[Any]) -> Measured:
    try:
        measured: Measured = future.result()
    except BrokenProcessPool:
        raise RunFailed(
            "a process that computed a trial was killed, perhaps for its memory; the finished trials are kept, and "
            "fewer --jobs need less"
        ) from None
    return measured


def _begin() -> None:
    one_thread()
    # A Ctrl-C on the terminal reaches every process of the group; these have nothing to say about it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
