"""The page's HTTP: one page and its events, by quart-trio and hypercorn; read-only, and for asking browsers only.

A page of somebody else's must not read it by way of the viewer's browser: nothing here allows another origin, and a
name that is none of this machine's is refused, lest it be one that was made to point here (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from quart import Response, abort, request
from quart_trio import QuartTrio

from gossip.page.rendering import frame
from gossip.page.viewers import Viewer

if TYPE_CHECKING:
    from gossip.page.serving import Live

CONNECTIONS_MAX = 320
"""At a time; others are closed at once. A browser has one for the page and one for the events."""

STREAM = "stream"
"""In a connection's state, the connection."""

SLOW_S = 10.0
"""For a viewer to take what it is sent; then its connection is closed."""

SENT_BYTES_MAX = 256 * 1024
"""What the system keeps of what a viewer has not taken yet."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer; the page's own policy allows its scripts, by their hashes."""


async def serve(live: Live, listening: socket.socket) -> None:
    """Answer until cancelled."""
    app, config, context = ASGIWrapper(application(live)), _config(), WorkerContext(None)
    there: set[trio.SocketStream] = set()

    async def answer(stream: trio.SocketStream) -> None:
        if len(there) >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        there.add(stream)
        try:
            with live.contained("a viewer of the page not served"):
                patient = Patient(stream)
                state = ConnectionState({STREAM: patient})
                await TCPServer(app, config, context, state, patient)  # type: ignore[arg-type]
        finally:
            there.discard(stream)

    # What is accepted inherits it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES_MAX)
    try:
        await trio.serve_listeners(answer, [trio.SocketListener(trio.socket.from_stdlib_socket(listening))])
    finally:
        # The library shields what it sends, which nobody may take any more.
        for stream in there:
            stream.socket.close()


class Patient(trio.abc.HalfCloseableStream):
    """A connection that waits so long for its viewer, and no longer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or give the viewer up."""
        with trio.move_on_after(SLOW_S) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            await self.aclose()
            raise trio.BrokenResourceError("the viewer takes nothing")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until something can be sent."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say that nothing more comes."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


def application(live: Live) -> QuartTrio:
    """Return what answers: / and /events."""
    app = QuartTrio("gossip.page", static_folder=None)
    names = {"localhost", live.host.lower(), socket.gethostname().lower()}
    framed: list[tuple[bytes, bytes, str]] = []

    @app.before_request
    async def known_host() -> None:
        if not is_ours(request.host, names):
            abort(421)

    @app.after_request
    async def with_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/")
    async def page() -> Response:
        if not framed:
            found = frame(live.first, live=True)
            framed.append((found.before.encode(), found.after.encode(), found.policy))
        before, after, policy = framed[0]
        response = Response(before + live.text.encode() + after, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
        return response

    @app.get("/events")
    async def events() -> Response:
        if request.http_version != "1.1":
            abort(505)
        stream: Patient = request.scope["state"][STREAM]
        # The way through the library costs ten times what sending does, for each of many viewers.
        written = live.events(Viewer(stream.socket.fileno, stream.send_all))
        found = Response(written, content_type="text/event-stream")
        found.timeout = None
        return found

    return app


def is_ours(said: str, names: set[str]) -> bool:
    """Return whether a Host header says this machine: an address, which no foreign name can stand for, or its name."""
    host = said.rpartition("]")[0].lstrip("[") if said.startswith("[") else said.partition(":")[0]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.lower() in names
    return True


def _config() -> Config:
    config = Config()
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    config.max_app_queue_size = 2
    config.websocket_max_message_size = 0
    return config
