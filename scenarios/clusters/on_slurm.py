"""Runs as jobs of Slurm, by submitit: an array of them, whose answers come back through a folder that it shares.

Submitit writes what a job is told and what it returns as pickles into that folder, which only its owner may open; what
is in them is bytes of ours, an order and an answer.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gossip.errors import SettingError, nearest
from gossip.extras import needed
from scenarios.clusters.executor import Ended, Executor
from scenarios.clusters.orders import Order, arrive, order, work
from scenarios.clusters.runs import Run

POLL_S = 1.0
"""A look whether a file is there; Slurm itself is asked more and more rarely."""

DEFAULTS: Mapping[str, Any] = {"name": "gossip-sweep", "time": 60, "cpus_per_task": 1}
"""Submitit's own five minutes (`time`) are short for learning."""


class Slurm(Executor):
    """Jobs of Slurm.

    Args:
        settings: what submitit calls them: partition, time (minutes), mem_gb, gpus_per_node, account, …; and `folder`,
            which all machines share.
        folder: the default of that.
        cluster: submitit's name; others than slurm are its stand-ins: local and debug.

    Raises:
        SettingError: submitit is missing, or there is no Slurm, or no such setting.
    """

    def __init__(self, settings: Mapping[str, Any], *, folder: Path, cluster: str = "slurm") -> None:
        submitit = needed("submitit", "--cluster slurm needs the package submitit", extra="slurm")
        # What it says of each submission is no news; what went wrong comes as an exception.
        logging.getLogger("submitit").setLevel(logging.CRITICAL)
        self._incomplete = submitit.core.utils.UncompletedJobError
        values = {**DEFAULTS, **settings}
        shared = Path(str(values.pop("folder", folder))).expanduser().absolute()
        try:
            shared.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingError(f"--cluster-set folder={shared}: cannot be made: {error.strerror}") from None
        try:
            self._submitit = submitit.AutoExecutor(folder=shared, cluster=cluster)
        except RuntimeError:
            raise SettingError(
                "--cluster slurm: there is no Slurm here (no command 'srun'); start the sweep on a machine that submits"
            ) from None
        self._submitit.update_parameters(**_named(values))
        self._jobs: dict[Any, tuple[Run, Order]] = {}

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Executor`; several runs are one array."""
        orders = [order(run) for run in runs]
        try:
            with self._submitit.batch():
                jobs = [self._submitit.submit(work, each.data) for each in orders]
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            said = getattr(error, "output", None) or getattr(error, "stderr", None) or str(error)
            raise SettingError(f"--cluster slurm: sbatch refuses: {_last_line(said)}") from None
        self._jobs.update(zip(jobs, zip(runs, orders, strict=True), strict=True))

    def completed(self) -> Iterator[Ended]:
        """See `Executor`."""
        while self._jobs:
            ended = [job for job in self._jobs if job.done()]
            for job in ended:
                run, ordered = self._jobs.pop(job)
                try:
                    answer = job.result()
                except self._incomplete:
                    yield Ended(
                        run, f"Slurm's job {job.job_id} is {job.state}; its log is {job.paths.stderr}"
                    )
                    continue
                except Exception as error:
                    raise SettingError(
                        f"--cluster slurm: the job {job.job_id} of {run.told} failed: {_last_line(str(error))}; its "
                        f"log is {job.paths.stderr}"
                    ) from None
                arrive(run, ordered, answer)
                job.paths.result_pickle.unlink(missing_ok=True)  # the run is in its place now
                yield Ended(run)
            if not ended:
                time.sleep(POLL_S)

    def cancel(self) -> None:
        """See `Executor`; by scancel."""
        for job in self._jobs:
            job.cancel(check=False)
        self._jobs.clear()

    def close(self) -> None:
        """See `Executor`; logs stay."""


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as submitit's executor takes them.

    Raises:
        SettingError: there is none of that name, or its value is of another sort.
    """
    import submitit

    sorts = submitit.AutoExecutor._typed_parameters()
    of_slurm = submitit.SlurmExecutor._valid_parameters()
    named = {}
    for key, value in values.items():
        if key in sorts:
            if not isinstance(value, (int, float) if sorts[key] is float else sorts[key]):
                raise SettingError(f"--cluster-set {key}={value}: must be of the sort {sorts[key].__name__}")
            named[key] = value
        elif key in of_slurm:
            named[f"slurm_{key}"] = value
        else:
            raise SettingError(
                f"--cluster-set {key}={value}: Slurm has no such setting here; "
                f"{nearest(key, {*sorts, *of_slurm, 'folder'})}"
            )
    return named


def _last_line(said: str | bytes) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it says nothing")
