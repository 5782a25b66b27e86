"""`sweep --live`: the runs that have ended, while the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from gossip.page.rendering import nothing_yet
from gossip.page.serving import Document
from scenarios.reports import runs
from scenarios.reports.document import of_runs
from scenarios.reports.live import opened, stopped
from scenarios.sweep import Run, is_done


@contextmanager
def shown(
    address: str, planned: Sequence[Run], *, title: str, say: Callable[[str], None]
) -> Iterator[Callable[[Run], None]]:
    """Serve the page while the block runs, and give what is to be told of each finished run.

    Raises:
        SettingError: the address is malformed or taken, or the packages that serve are not there.
    """
    live = opened(address, nothing_yet(title, f"{len(planned)} runs"))
    say(f"live page: {live.url}")
    began_s, fresh = time.monotonic(), 0
    ended = [read(run) for run in planned if is_done(run)]

    def document(found: Sequence[runs.Run], left_s: float | None, state: str) -> Document:
        progress = {"done": len(found), "of": len(planned), "what": "runs", "left": left_s, "took": ""}
        return {**of_runs.document(found), "title": title, "state": state, "progress": progress}

    def show(run: Run) -> None:
        nonlocal fresh
        with live.contained("page not drawn"):
            fresh += 1
            ended.append(read(run))
            left_s = (time.monotonic() - began_s) / fresh * (len(planned) - len(ended))
            live.offer(partial(document, list(ended), left_s, "running"))

    try:
        if ended:
            live.offer(partial(document, list(ended), None, "running"))
        yield show
        live.offer(partial(document, list(ended), None, "finished"), last=True)
    except BaseException:
        live.offer(partial(stopped, live, "interrupted"), last=True)
        raise
    finally:
        live.close()


def read(run: Run) -> runs.Run:
    """Return a finished run without what a page of many does not show.

    Raises:
        SettingError: it is none.
    """
    found = runs.read_run(run.folder)
    return replace(found, metrics=(), events=(), graph=None)
