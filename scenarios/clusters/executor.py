"""The seam: who does runs. Ours are processes of this machine, Slurm and Ray, one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from scenarios.clusters.runs import Run
from scenarios.errors import RunFailed

ATTEMPTS_MAX = 3
"""Machines fail now and then; a run that takes three workers with it is the reason itself, such as its memory."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is no longer in hand."""

    run: Run
    lost: str | None = None
    """What became of whoever did it; None: the run is done, and its folder is there."""


class Executor(ABC):
    """Does runs, as many at a time as there is room for; a context manager that leaves nothing running."""

    @abstractmethod
    def submit(self, runs: Sequence[Run]) -> None:
        """Take runs in hand. Each is done into its folder, whatever is in it.

        Raises:
            UserError: they cannot be done there; one sentence.
        """

    @abstractmethod
    def completed(self) -> Iterator[Ended]:
        """Yield runs as they end, until none is in hand; more may be submitted meanwhile.

        Raises:
            GossipError: a run came to nothing wherever it is done, or a worker must not do it; one sentence.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End what runs and forget what waits. Raises nothing that stands in the way of an error before it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what a finished sweep needs no more."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()
        self.close()


def each_done(executor: Executor, runs: Sequence[Run]) -> Iterator[Run]:
    """Do the runs, those of a lost worker again, and yield each as it is done; leaving early ends what runs.

    Raises:
        RunFailed: a run lost `ATTEMPTS_MAX` workers. GossipError: as `Executor.completed`.
    """
    attempts: Counter[Run] = Counter()
    with executor:
        executor.submit(runs)
        for ended in executor.completed():
            if ended.lost is None:
                yield ended.run
                continue
            attempts[ended.run] += 1
            if attempts[ended.run] >= ATTEMPTS_MAX:
                raise RunFailed(
                    f"{ended.run.told}: the worker was lost {ATTEMPTS_MAX} times, at last because {ended.lost}; "
                    "finished runs are kept, and the same command goes on from there"
                )
            executor.submit([ended.run])
