"""`--metrics HOST:PORT`: /metrics for Prometheus, /healthz and /readyz for whoever supervises the process.

Answered by threads of their own from what the event loop has published last, so that they answer also when it is stuck.
Without a host it is the loopback: there is no authentication.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from gossip.errors import SettingError
from gossip.telemetry.addresses import family_of, parsed, tell_who_may_read
from gossip.telemetry.health import Published, not_ready, unhealthy
from gossip.telemetry.prometheus import registry_of

OPTION = "--metrics"

ASKERS_MAX = 16
"""Connections at a time; a supervisor and a collector need two. Others are closed at once."""

ASKER_S = 10.0
"""For a request to come and an answer to be taken."""

_STATUS = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}

Start = Callable[[str, list[tuple[str, str]]], Any]


class Web:
    """Serves what was published last.

    Raises:
        SettingError: the address is malformed or taken.
    """

    def __init__(self, address: str, *, version: str) -> None:
        self._published: Published | None = None
        self._metrics = make_wsgi_app(registry_of(self._status, version=version))
        self._server = _bound(address, self._answer)
        self.port = int(self._server.server_address[1])
        tell_who_may_read(address, OPTION)
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def publish(self, status: Mapping[str, Any]) -> None:
        """Take over what `status_of` says; call it from the event loop, every second."""
        self._published = Published(status, time.monotonic())

    def close(self) -> None:
        """Stop listening, soon."""
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()  # waits for the other thread to notice
        self._server.server_close()

    def _status(self) -> Mapping[str, Any]:
        assert self._published is not None
        return self._published.status

    def _answer(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path, published = environ.get("PATH_INFO", ""), self._published
        if path in ("/", "/metrics") and published is not None:
            answer: Iterable[bytes] = self._metrics(environ, start)
            return answer
        if path in ("/healthz", "/readyz"):
            judge = unhealthy if path == "/healthz" else not_ready
            reasons = judge(published, time.monotonic())
            said = {"ok": not reasons, "reasons": reasons}
            if published is not None:
                said |= {
                    key: published.status[key] for key in ("name", "state", "round", "round_in_progress")
                }
            return _json(start, 503 if reasons else 200, said)
        return _json(start, 404, {"ok": False, "reasons": ["there are /metrics, /healthz and /readyz"]})


def _json(start: Start, code: int, said: Mapping[str, Any]) -> list[bytes]:
    body = json.dumps(said).encode() + b"\n"
    start(_STATUS[code], [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def check_address(address: str, *, free: bool = True) -> None:
    """Raise `SettingError` where nothing could be served at `address`: it is malformed, or, unless `free` is not asked
    for, taken."""
    parsed(address, OPTION)
    if free:
        _bound(address, lambda environ, start: []).server_close()


def _bound(address: str, app: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> _Server:
    host, port = parsed(address, OPTION)
    try:
        return _server(host, port, app)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingError(f"{OPTION} {address}: cannot listen there: {why}") from None


class _Handler(WSGIRequestHandler):
    timeout = ASKER_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the log is for what the node does."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A thread that is stuck with its asker must not be waited for.
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(ASKERS_MAX)
        super().__init__(*args)

    def server_bind(self) -> None:
        """Bind; the library would also ask the name service who we are, and may wait long for an answer."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if one is free."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and be free again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: an asker has left in the middle."""


def _server(host: str, port: int, app: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> _Server:
    family = family_of(host, port)
    server = type("_OfFamily", (_Server,), {"address_family": family})((host, port), _Handler)
    assert isinstance(server, _Server)
    server.set_app(app)
    return server
