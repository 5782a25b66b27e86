"""The mini-batches of one local update, in order: cut out of what is in memory, or read ahead of the training."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from gossip.learning import batches
from gossip.learning.data.mapped import Mapped, Samples

AHEAD = 2
"""Mini-batches that are ready before they are needed: one is enough for even reading, two for uneven."""

T = TypeVar("T")


class _Failed(NamedTuple):
    failure: BaseException


class _End:
    """Nothing comes any more."""


def mini_batches(
    x: Samples, y: Tensor, plan: Iterable[batches.Epoch]
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield mini-batches (b, …), (b, …) of samples and targets where `y` lies; close it where it is left early.

    Raises:
        DataError: mapped samples cannot be read, or are not finite.
    """
    if isinstance(x, Mapped):
        read = _read(x.to("cpu"), plan)
        # Who draws from the process's generators must not do so while the network may.
        with closing(read if x.draws else ahead(read)) as given:
            for chosen, x_batch in given:
                # To the device by the thread that trains: what is current there is no other thread's affair.
                yield x_batch.to(y.device), y.index_select(0, chosen.to(y.device))
        return
    for epoch in plan:
        # One gather per epoch: slices of it are then free.
        order = torch.from_numpy(epoch.order).to(y.device)
        sizes = list(epoch.sizes)
        xs, ys = x.index_select(0, order), y.index_select(0, order)
        yield from zip(torch.split(xs, sizes), torch.split(ys, sizes), strict=True)


def _read(x: Mapped, plan: Iterable[batches.Epoch]) -> Generator[tuple[Tensor, Tensor], None, None]:
    for epoch in plan:
        for chosen in torch.split(torch.from_numpy(epoch.order), list(epoch.sizes)):
            yield chosen, x[chosen]


def ahead(items: Iterator[T], *, depth: int = AHEAD) -> Generator[T, None, None]:
    """Yield `items`, of which another thread makes up to `depth` beforehand. Closing it ends the thread.

    What fails there is raised here, in its turn.
    """
    room, made, left = Semaphore(depth), SimpleQueue[T | _Failed | type[_End]](), Event()

    def work() -> None:
        try:
            while True:
                room.acquire()
                if left.is_set():
                    return
                item = next(items, _End)
                made.put(item)
                if item is _End:
                    return
                del item  # or it would live until the next one is made
        except BaseException as failure:
            made.put(_Failed(failure))

    # As a daemon, like the thread that trains: a node that is told to end waits for no mini-batch.
    thread = Thread(target=work, name="mini-batches", daemon=True)
    thread.start()
    try:
        while True:
            got = made.get()
            if isinstance(got, _Failed):
                raise got.failure
            if isinstance(got, type):
                return
            room.release()
            yield got
            del got
    finally:
        left.set()
        room.release()
        thread.join()
