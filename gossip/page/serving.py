"""A page while it goes on: the newest document, sent to whoever looks as server-sent events.

In a thread with a trio of its own: what goes wrong there, and how many look, is nothing to the learning. Documents are
made there, too, once for all viewers, and only while somebody looks; nobody has a queue: a viewer who was busy gets the
newest document next. The thread keeps itself to `SHARE` of the process's own time: what costs more comes more seldom.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trio

from gossip.errors import SettingError
from gossip.page.rendering import encoded
from gossip.page.viewers import Viewer
from gossip.telemetry.addresses import family_of, parsed, tell_who_may_read
from gossip.telemetry.containment import Containment

Document = Mapping[str, Any]

EVERY_S = 1.0
"""Between two documents at least."""

SHARE = 0.02
"""Of the processor time that this process gets, for all that the page does."""

IDLE_SHARE = 0.004
"""Of a processor, beside it: a process that waits is looked at, too."""

EVERY_S_MAX = 20.0
"""However much a document costs, somebody who looks wants to see that it goes on."""

SENT_EVERY_S_MAX = 4.0
"""The same of what it costs to send it: who has died is to be seen within five seconds, however many look."""

QUIET_S = 10.0
"""Without news a viewer is sent a comment so often, which finds out whether it is still there."""

LINGER_S = 1.0
"""At the end, for the last document to reach the viewers."""

PACKAGES = ("quart_trio", "hypercorn")

FAILED = "page not served"

THREAD = "gossip-page"
"""What `top -H` calls the thread."""


class Live:
    """Serves documents at an address, from now on until `close`.

    Args:
        address: HOST:PORT; without a host the loopback.
        option: where the user gave it.
        shown: the first document.
        contained: where failures are told.

    Raises:
        SettingError: the address is malformed or taken, or the packages that serve are not there.
    """

    def __init__(self, address: str, *, option: str, shown: Document, contained: Containment) -> None:
        require_packages(option)
        self._listening = bound(address, option)
        host, self.port = self._listening.getsockname()[:2]
        self.host = parsed(address, option)[0]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        tell_who_may_read(address, option)
        self.contained = contained
        self.first = shown
        self._lock = threading.Lock()
        self._make: Callable[[], Document] | None = None
        self._last = False
        self._shown_s = self._process_s = self._cost_s = self._patience_s = 0.0
        """When the last document was shown, on the wall and by this process's time; what it cost; how long that is
        waited out."""
        self._elsewhere_s = 0.0
        self.viewers = 0
        self.number = 0
        """Of the newest document."""
        self.text = encoded(shown)
        self.ended = False
        self._looking: set[Viewer] = set()
        self._encoded: tuple[int, bytes] = (-1, b"")
        self._loop: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    # --- from the thread that learns ---

    @property
    def wanted(self) -> bool:
        """Whether somebody looks, and it is time for another document."""
        if self.viewers == 0 or self._make is not None:
            return False
        passed_s = time.monotonic() - self._shown_s
        earned_s = SHARE * (time.process_time() - self._process_s) + IDLE_SHARE * passed_s
        return passed_s >= EVERY_S and (earned_s >= self._cost_s or passed_s >= self._patience_s)

    def offer(self, make: Callable[[], Document], *, took_s: float = 0.0, last: bool = False) -> None:
        """Have a newer document shown; `make` is called in the page's thread, and may have cost `took_s` here."""
        with self._lock:
            self._make, self._last = make, self._last or last
            self._elsewhere_s += took_s
        self._wake(self._offered)

    def close(self) -> None:
        """Send what was offered last, then stop listening. Waits a moment for the viewers to have it."""
        self._wake(self._close)
        self._thread.join(timeout=2 * LINGER_S)

    def _wake(self, act: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(trio.RunFinishedError):  # it has failed, which was told then
                loop.run_sync_soon(act)

    # --- in the page's thread ---

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # where threads are no files
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(THREAD, encoding="ascii")
        try:
            with self.contained(FAILED):
                trio.run(self._serve)
        finally:
            self._loop = None
            self._listening.close()

    async def _serve(self) -> None:
        from gossip.page.web import serve

        self._asked, self._closing = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, self, self._listening)
            nursery.start_soon(self._pace)
            self._loop = trio.lowlevel.current_trio_token()
            self._asked.set()  # something may have been offered before
            await self._closing.wait()
            with trio.move_on_after(LINGER_S):
                while self._make is not None or (self.viewers and self.ended):
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    def _offered(self) -> None:
        self._asked.set()

    def _close(self) -> None:
        self._asked.set()
        self._closing.set()

    async def _pace(self) -> None:
        """Make a document whenever one is offered, and keep to the thread's share."""
        thread_s = time.thread_time()
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            with self._lock:
                make, last = self._make, self._last
            if make is None:
                continue
            began_s = time.thread_time()
            with self.contained("page not drawn"):
                self._show(make(), last=last)
            made_s = time.thread_time() - began_s
            await trio.sleep(0)  # the turn of viewers who do not take it at once
            with self._lock:
                self._make = None if self._make is make else self._make
                made_s, self._elsewhere_s = made_s + self._elsewhere_s, 0.0
            now_s = time.thread_time()
            cost_s, thread_s = max(made_s, now_s - thread_s), now_s
            self._patience_s = max(SENT_EVERY_S_MAX, min(EVERY_S_MAX, made_s / SHARE / 4))
            self._shown_s, self._process_s, self._cost_s = time.monotonic(), time.process_time(), cost_s

    def _show(self, shown: Document, *, last: bool) -> None:
        text = encoded(shown)
        self.ended = last
        if text != self.text or last:
            self.text, self.number = text, self.number + 1
            piece = self._piece()
            for viewer in self._looking:
                viewer.push(self.number, piece)
                if last:
                    viewer.wake()

    async def events(self, viewer: Viewer) -> AsyncIterator[bytes]:
        """Yield the beginning and the end of what a viewer is sent; documents go straight to its connection."""
        self.viewers += 1
        try:
            yield b"retry: 2000\n\n"
            self._looking.add(viewer)
            while not (self.ended and viewer.seen == self.number):
                if not await viewer.take(self.number, self._piece(), quiet_s=QUIET_S) and not self.ended:
                    yield b":\n\n"
            yield b"event: end\ndata:\n\n"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the viewer has gone, or takes nothing
        finally:
            self._looking.discard(viewer)
            self.viewers -= 1

    def _piece(self) -> bytes:
        """Return the newest document as an event, in a chunk of HTTP; the same bytes for all viewers."""
        if self._encoded[0] != self.number:
            event = f"event: document\ndata: {self.text}\n\n".encode()
            self._encoded = (self.number, b"%x\r\n%b\r\n" % (len(event), event))
        return self._encoded[1]


def require_packages(option: str) -> None:
    """Raise `SettingError` where the packages that serve are not there."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SettingError(
            f"{option} needs the packages quart-trio and hypercorn, which are not installed; pip install "
            "'gossip-node[page]'"
        )


def bound(address: str, option: str) -> socket.socket:
    """Return a socket that listens at the address.

    Raises:
        SettingError: it is malformed or taken.
    """
    host, port = parsed(address, option)
    listening = None
    try:
        listening = socket.socket(family_of(host, port), socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(64)
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingError(f"{option} {address}: cannot listen there: {why}") from None
    listening.setblocking(False)
    return listening
