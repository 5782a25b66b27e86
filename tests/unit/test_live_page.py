"""The live page: the newest document to all who look, bounded whatever they do, and nobody from elsewhere reads it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gossip.errors import SettingError
from gossip.page import serving, web
from gossip.page.serving import Live
from gossip.telemetry.containment import Containment
from tests.integration.homes import eventually

FIRST = {
    "title": "of <b>ours</b>",
    "lead": "",
    "state": "starting",
    "kind": "nothing yet",
    "padding": "x" * 100,
}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(serving, "EVERY_S", 0.01)
    monkeypatch.setattr(serving, "SHARE", 1.0)
    made = Live("0", option="--page", shown=FIRST, contained=Containment())
    yield made
    made.close()
    while OPEN:
        OPEN.pop().close()


OPEN: list[http.client.HTTPConnection] = []


def ask(live: Live, path: str = "/", *, method: str = "GET", host: str = "localhost") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    OPEN.append(connection)
    connection.request(method, path, headers={"Host": host})
    return connection.getresponse()


class Viewer:
    """Reads events one after another."""

    def __init__(self, live: Live) -> None:
        self._answer = ask(live, "/events")

    def event(self) -> tuple[str, str]:
        """Return the next event that is no comment, (kind, data)."""
        fields: dict[str, str] = {}
        while True:
            line = self._answer.readline().decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if name in ("event", "data"):
                fields[name] = value
            elif not line and "event" in fields:
                return fields["event"], fields.get("data", "")

    def states(self) -> str:
        """Return the state that the next document tells."""
        kind, data = self.event()
        assert kind == "document"
        return str(json.loads(data)["state"])


def state(name: str) -> Any:
    return lambda: {**FIRST, "state": name}


def test_the_page_has_the_newest_document_and_may_load_nothing_but_its_own_events(live: Live) -> None:
    live.offer(state("round 1"))
    eventually(lambda: live.number == 1, "the document is made")
    answer = ask(live)
    text = answer.read().decode()
    assert '"state":"round 1"' in text
    assert "of <b>" not in text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert answer.headers["Set-Cookie"] is None
    assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/", 405), ("DELETE", "/events", 405), ("GET", "/../etc/passwd", 404), ("GET", "/x", 404)],
)
def test_there_is_nothing_else_and_nothing_to_write(live: Live, method: str, path: str, status: int) -> None:
    answer = ask(live, path, method=method)
    assert answer.status == status
    assert answer.headers["Set-Cookie"] is None


@pytest.mark.parametrize("path", ["/", "/events"])
def test_a_foreign_name_that_points_here_is_refused(live: Live, path: str) -> None:
    assert ask(live, path, host="rebound.example").status == 421


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        *(
            (name, True)
            for name in ("127.0.0.1:8780", "[::1]:8780", "[::1]", "localhost:1", "LOCALHOST", "pi:80")
        ),
        *(
            (name, False)
            for name in ("evil.example", "127.0.0.1.evil.example:80", "localhost.evil", "", "[evil]:80")
        ),
    ],
)
def test_hosts_are_addresses_or_names_of_this_machine(host: str, ours: bool) -> None:
    assert web.is_ours(host, {"localhost", "pi"}) is ours


def test_a_viewer_sees_the_first_document_later_ones_and_the_end(live: Live) -> None:
    viewer = Viewer(live)
    assert viewer.states() == "starting"
    live.offer(state("running"))
    assert viewer.states() == "running"
    live.offer(state("finished"), last=True)
    assert viewer.states() == "finished"
    assert viewer.event()[0] == "end"


def test_all_viewers_are_sent_what_was_encoded_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    encodings = []
    encode = serving.encoded
    monkeypatch.setattr(serving, "encoded", lambda shown: encodings.append(1) or encode(shown))
    viewers = [Viewer(live) for _ in range(8)]
    assert [viewer.states() for viewer in viewers] == ["starting"] * 8
    live.offer(state("running"))
    assert [viewer.states() for viewer in viewers] == ["running"] * 8
    assert len(encodings) == 1


def test_nothing_is_wanted_while_nobody_looks(live: Live) -> None:
    assert not live.wanted
    viewer = Viewer(live)
    assert viewer.states() == "starting"
    eventually(lambda: live.wanted, "a document is wanted")
    live.offer(state("running"))
    assert viewer.states() == "running"


def test_what_cannot_be_drawn_is_counted_and_the_next_document_is_shown(live: Live) -> None:
    viewer = Viewer(live)
    assert viewer.states() == "starting"
    live.offer(lambda: {}["missing"])
    eventually(lambda: live.contained.counts() == {"page not drawn": 1}, "the failure is counted")
    live.offer(lambda: {"loss": float("nan")})
    eventually(lambda: live.contained.counts() == {"page not drawn": 2}, "the failure is counted")
    live.offer(state("running"))
    assert viewer.states() == "running"


def test_a_viewer_who_never_reads_is_dropped_and_the_others_go_on(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SLOW_S", 0.2)
    reader = Viewer(live)
    assert reader.states() == "starting"
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", live.port))
        silent.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: live.viewers == 2, "both look")
        for number in range(40):
            live.offer(lambda number=number: {**FIRST, "state": str(number), "padding": "y" * 200_000})
            while reader.states() != str(number):
                pass
            if live.viewers == 1:
                break
        eventually(lambda: live.viewers == 1, "who never reads is gone")
    live.offer(state("running"))
    assert reader.states() == "running"


def test_more_connections_than_there_may_be_are_closed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CONNECTIONS_MAX", 2)
    viewers = [Viewer(live) for _ in range(2)]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(live)
    live.offer(state("running"))
    assert [viewer.states() for viewer in viewers] in (["starting"] * 2, ["running"] * 2)


def test_it_ends_at_once_though_a_viewer_never_reads(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOW_S", 0.5)
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", live.port))
        silent.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: live.viewers == 1, "it looks")
        live.offer(lambda: {**FIRST, "padding": "y" * 4_000_000}, last=True)
        live.close()
        eventually(lambda: not live._thread.is_alive(), "nothing is left of it")


def test_a_taken_address_and_one_that_is_none_are_one_sentence(live: Live) -> None:
    with pytest.raises(SettingError, match=rf"--page 127.0.0.1:{live.port}: cannot listen there"):
        Live(f"127.0.0.1:{live.port}", option="--page", shown=FIRST, contained=Containment())
    with pytest.raises(SettingError, match="must be HOST:PORT"):
        Live("nonsense", option="--page", shown=FIRST, contained=Containment())


def test_without_the_packages_a_sentence_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"--page needs .*quart-trio.* pip install 'gossip-node\[page\]'"):
        Live("0", option="--page", shown=FIRST, contained=Containment())
