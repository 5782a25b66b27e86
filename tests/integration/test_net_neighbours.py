"""Real sockets on this machine: who connects, who is refused, and what passes."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import trio
import trio.testing

from gossip.errors import SettingError
from gossip.net.identity import Identity
from gossip.net.tls import TlsContexts
from gossip.protocols.base import FinishedMessage, Message
from gossip.wire.agreement import Agreement
from gossip.wire.messages import register
from tests.network import AGREEMENT, UNSEEN, Net, Peer, Value, free_ports, model


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    """A message that need not keep its place."""

    kind: ClassVar[str] = "test-ping"
    number: int


@pytest.mark.parametrize("insecure", [False, True])
def test_two_peers_exchange_models_and_messages_and_count_them_alike(tmp_path: Path, insecure: bool) -> None:
    net = Net(tmp_path, "alice", "bob", insecure=insecure)
    vector = torch.randn(300_000, generator=torch.Generator().manual_seed(1))

    async def main() -> None:
        alice, bob = (net.peer(name, learned=300_000, dial_delay_s=0.0) for name in ("alice", "bob"))
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            await bob.until_up("alice")
            alice.table.send("bob", model(3, vector, step=1))
            bob.table.send("alice", FinishedMessage(round=7))
            await bob.until(lambda: bool(bob.messages))
            await alice.until(lambda: bool(alice.messages))
            assert alice.messages == [("bob", FinishedMessage(round=7))]
            sender, message = bob.messages[0]
            assert (sender, message.round, message.step) == ("alice", 3, 1)  # type: ignore[attr-defined]
            assert torch.equal(message.model, vector)  # type: ignore[attr-defined]
            assert [(p["name"], p["up"], p["error"]) for p in alice.table.status()] == [("bob", True, None)]
            await alice.table.close("leaving")
            await bob.until(lambda: bob.changes[-1] == ("alice", False))
            await bob.table.close("leaving")
        assert (alice.changes[0], bob.changes[0]) == (("bob", True), ("alice", True))
        assert alice.rejected == bob.rejected == []
        for there, here in ((alice, bob), (bob, alice)):
            sent, received = (
                there.accounting.as_dict()["bytes"],
                here.accounting.as_dict()["received"]["bytes"],
            )
            assert sent["payload"] == received["payload"]
            assert sent["protocol"] == received["protocol"]
            assert sent["transport"] > 0
        counted = alice.accounting.as_dict()
        assert counted["bytes"]["payload"] == 1_200_000
        assert counted["messages"]["by_type"]["model"] == 1
        assert counted["bytes"]["by_type"]["model"] < 1.001 * 1_200_000

    trio.run(main)


def test_when_both_sides_dial_at_once_one_connection_is_settled_on_and_stays(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d", "e")
    net = Net(tmp_path, *names)

    async def main() -> None:
        peers = {name: net.peer(name, dial_delay_s=0.0) for name in names}
        async with trio.open_nursery() as nursery:
            for peer in peers.values():
                await nursery.start(peer.table.run)
            for name, peer in peers.items():
                await peer.until_up(*(other for other in names if other != name))
            # A message each way over every pair: whatever was dialled in vain is settled before it comes.
            for peer in peers.values():
                for other in names:
                    peer.table.send(other, FinishedMessage(round=1))
            for peer in peers.values():
                await peer.until(lambda peer=peer: len(peer.messages) == 4)  # type: ignore[misc]
            for name, peer in peers.items():
                assert sorted(peer.changes) == sorted((other, True) for other in names if other != name)
                assert peer.rejected == []
                dialled = {entry["name"]: entry["dialled"] for entry in peer.table.status()}
                for other in dialled:
                    back = {entry["name"]: entry["dialled"] for entry in peers[other].table.status()}
                    assert dialled[other] != back[name]
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_restarted_peer_replaces_its_old_connection_at_once(tmp_path: Path) -> None:
    for restarted, other in (("a", "b"), ("b", "a")):
        net = Net(tmp_path / restarted, "a", "b")

        async def main(net: Net = net, restarted: str = restarted, other: str = other) -> None:
            stays = net.peer(other, contacts=())
            # The old process hangs: its table is never closed, its connection never ends by itself.
            hangs, comes = (
                net.peer(restarted, contacts=(other,), instance=i, dial_delay_s=0.0) for i in "12"
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(stays.table.run)
                nursery.start_soon(dial_only, hangs)
                await stays.until_up(restarted)
                nursery.start_soon(dial_only, comes)
                await comes.until_up(other)
                await stays.until(lambda: len(stays.changes) == 3)
                assert [up for _, up in stays.changes] == [True, False, True]
                comes.table.send(other, FinishedMessage(round=2))
                await stays.until(lambda: bool(stays.messages))
                nursery.cancel_scope.cancel()

        async def dial_only(peer: Peer) -> None:
            peer.table._listen = listen_elsewhere()
            await peer.table.run()

        trio.run(main)


def test_a_strangers_key_is_refused_on_both_sides_and_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(tmp_path, "alice", "bob")
    # Mallory knows everything about alice but her key.
    mallory = Identity.create(tmp_path / "mallory", name="alice", advertise=net.identities["alice"].advertise)

    async def as_client() -> None:
        alice, bob = net.peer("alice"), net.peer("bob")
        impostor = net.peer("alice", identity=mallory, contacts=("bob",), instance="9")
        impostor.table._listen = listen_elsewhere()
        async with trio.open_nursery() as nursery:
            for peer in (alice, bob, impostor):
                await nursery.start(peer.table.run)
            await bob.until_up("alice")
            await bob.until(lambda: "certificate" in bob.reasons())
            await impostor.until(lambda: "certificate" in impostor.reasons())
            assert not impostor.changes
            assert bob.changes == [("alice", True)]
            bob.table.send("alice", FinishedMessage(round=1))
            await alice.until(lambda: bool(alice.messages))
            nursery.cancel_scope.cancel()
        assert bob.rejected[0] == (None, "certificate", "shows a certificate that is not in our peers file")
        assert "refuses our certificate" in impostor.rejected[0][2]

    async def as_server() -> None:
        bob = net.peer("bob", contacts=("alice",), dial_delay_s=0.0)
        impostor = net.peer("alice", identity=mallory, contacts=())
        async with trio.open_nursery() as nursery:
            await nursery.start(impostor.table.run)
            await nursery.start(bob.table.run)
            await bob.until(lambda: "certificate" in bob.reasons())
            assert bob.rejected[0] == (
                "alice",
                "certificate",
                "shows a certificate that is not in our peers file",
            )
            await impostor.until(lambda: bool(impostor.rejected))
            assert not bob.changes
            assert not impostor.changes
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING, "gossip.net"):
        trio.run(as_client)
        trio.run(as_server)
    assert all("\n" not in record.getMessage() for record in caplog.records)


def listen_elsewhere() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize(
    ("other", "reason", "sentence"),
    [
        (Agreement("run2", (("data", "1"), ("local", "9")), "space"), "run", "settings differ in [local]"),
        (Agreement("run2", AGREEMENT.sections, "space"), "run", "another run"),
        (Agreement("run", AGREEMENT.sections, "space2"), "space", "another model or task"),
    ],
)
def test_a_peer_of_another_run_or_model_is_refused_with_a_sentence_on_both_sides(
    tmp_path: Path, other: Agreement, reason: str, sentence: str
) -> None:
    net = Net(tmp_path, "alice", "bob", "carol")

    async def main() -> None:
        alice, bob, carol = net.peer("alice"), net.peer("bob", agreement=other), net.peer("carol")
        async with trio.open_nursery() as nursery:
            for peer in (alice, bob, carol):
                await nursery.start(peer.table.run)
            for peer in (alice, bob):
                await peer.until(lambda peer=peer: reason in peer.reasons())  # type: ignore[misc]
                assert any(sentence in told for _, _, told in peer.rejected)
            await carol.until_up("alice")
            assert not alice.table.is_up("bob")
            assert not bob.changes
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_that_is_not_to_be_seen_is_not_decoded_and_its_message_comes_all_the_same(
    tmp_path: Path,
) -> None:
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        alice, bob = net.peer("alice"), net.peer("bob")
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            bob.unseen.add("alice")
            alice.table.send("bob", model(1, torch.ones(16)))
            await bob.until(lambda: len(bob.messages) == 1)
            bob.unseen.clear()
            alice.table.send("bob", model(2, torch.ones(16)))
            await bob.until(lambda: len(bob.messages) == 2)
            (_, first), (_, second) = bob.messages
            assert (first.round, first.model) == (1, UNSEEN)  # type: ignore[attr-defined]
            assert second.round == 2  # type: ignore[attr-defined]
            assert torch.equal(second.model, torch.ones(16))  # type: ignore[attr-defined]
            assert bob.changes == [("alice", True)]
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_newer_model_takes_the_place_of_the_oldest_that_waits_and_small_messages_pass_them(
    tmp_path: Path,
) -> None:
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        alice, bob = net.peer("alice"), net.peer("bob")
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            values = [Value() for _ in range(3)]
            for round, value in enumerate(values):
                alice.table.send("bob", model(round, value))
            alice.table.send("bob", FinishedMessage(round=2))
            alice.table.send("bob", Ping(number=5))
            # Nothing but what may pass comes while no model is computed.
            await bob.until(lambda: bool(bob.messages))
            for value in reversed(values):
                value.set(torch.ones(16))
            await bob.until(lambda: len(bob.messages) == 4)
            kinds = [(m.kind, getattr(m, "round", None)) for _, m in bob.messages]
            assert kinds == [("test-ping", None), ("model", 1), ("model", 2), ("finished", 2)]
            assert alice.accounting.as_dict()["dropped_messages"] == {"replaced": 1}
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 64, b"\x16\x03\x01\xff\xff" * 20]
)
@pytest.mark.parametrize("insecure", [False, True])
def test_garbage_on_the_port_leaves_others_untouched(tmp_path: Path, noise: bytes, insecure: bool) -> None:
    net = Net(tmp_path, "alice", "bob", insecure=insecure)

    async def main() -> None:
        alice, bob = net.peer("alice"), net.peer("bob")
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            for _ in range(3):
                stranger = await trio.open_tcp_stream("127.0.0.1", net.ports["alice"])
                async with stranger:
                    if noise:
                        await stranger.send_all(noise)
                    await stranger.send_eof()
                    with trio.fail_after(10):
                        await drain(stranger)
            if len(noise) > 1000 or (noise and not insecure):
                await alice.until(lambda: len(alice.rejected) >= 3)
                assert alice.reasons() <= {"garbage", "truncated", "oversized"}
            alice.table.send("bob", FinishedMessage(round=1))
            await bob.until(lambda: bool(bob.messages))
            assert bob.changes == [("alice", True)]
            nursery.cancel_scope.cancel()

    trio.run(main)


async def drain(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        return


def test_strangers_who_say_nothing_are_bounded_in_number_and_time(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        alice = net.peer("alice", handshakes_max=2, handshake_timeout_s=0.5, contacts=())
        bob = net.peer("bob")
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            silent = [await trio.open_tcp_stream("127.0.0.1", net.ports["alice"]) for _ in range(5)]
            with trio.fail_after(10):
                for stream in silent:
                    await drain(stream)
                    await stream.aclose()
            await nursery.start(bob.table.run)
            await bob.until_up("alice")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_strangers_who_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    """Even where their connections may stay for an hour, the oldest gives way to who comes."""
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        alice = net.peer("alice", handshakes_max=4, handshake_timeout_s=3600.0, contacts=())
        bob = net.peer("bob")
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            silent = [await trio.open_tcp_stream("127.0.0.1", net.ports["alice"]) for _ in range(6)]
            with trio.fail_after(10):
                await drain(silent[0])
                await drain(silent[1])
                await nursery.start(bob.table.run)
                await bob.until_up("alice")
            nursery.cancel_scope.cancel()
        for stream in silent:
            await stream.aclose()

    trio.run(main)


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        first, second = net.peer("alice"), net.peer("alice")
        async with trio.open_nursery() as nursery:
            await nursery.start(first.table.run)
            with pytest.raises(SettingError, match=f"{net.ports['alice']}: the port is in use") as caught:
                await second.table.run()
            assert "\n" not in str(caught.value)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_peers_file_read_again_removes_and_adds_peers(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob", "carol")
    before, after = net.file("alice", "bob"), net.file("alice", "carol")

    async def main() -> None:
        alice = net.peer("alice", peers=before)
        bob, carol = net.peer("bob", peers=before), net.peer("carol", contacts=())
        async with trio.open_nursery() as nursery:
            for peer in (alice, bob, carol):
                await nursery.start(peer.table.run)
            await alice.until_up("bob")
            alice.table.replace_peers(after, ("carol",))
            await alice.until_up("carol")
            await bob.until(lambda: ("alice", False) in bob.changes)
            await bob.until(lambda: "certificate" in bob.reasons())
            assert not alice.table.is_up("bob")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_dead_silent_peer_is_noticed_and_a_living_idle_one_is_not(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob", insecure=True)
    quick = {"heartbeat_s": 0.05, "heartbeat_timeout_s": 0.5}

    async def main() -> None:
        alice, bob = net.peer("alice", **quick), net.peer("bob", **quick)
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            with trio.fail_after(20):
                while alice.accounting.received.messages_by_type["heartbeat"] < 20:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert alice.changes == [("bob", True)]
            (status,) = alice.table.status()
            assert 0 <= status["rtt_ms"] < 1000
            # Bob hangs: his sockets stay open, nothing is read or written.
            connection = bob.table._connection("alice")
            assert connection is not None
            connection._sender.heartbeat_at_s = float("inf")
            await alice.until(lambda: ("bob", False) in alice.changes)
            nursery.cancel_scope.cancel()

    trio.run(main)


class Hooked(Value):
    """A handle that does something at the moment when its model begins to be sent."""

    def __init__(self, vector: torch.Tensor, hook: Callable[[], None]) -> None:
        super().__init__(vector)
        self._hook = hook

    async def wait(self) -> torch.Tensor:
        self._hook()
        return await super().wait()


@pytest.mark.parametrize("insecure", [False, True])
def test_messages_and_heartbeats_pass_between_the_chunks_of_a_model(tmp_path: Path, insecure: bool) -> None:
    net = Net(tmp_path, "alice", "bob", insecure=insecure)
    learned = 3_000_000

    async def main() -> None:
        alice = net.peer("alice", learned=learned, heartbeat_s=0.001, chunk_bytes=4096)
        bob = net.peer("bob", learned=learned)
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            beaten: list[int] = []

            def begun() -> None:
                alice.table.send("bob", Ping(number=1))
                beaten.append(bob.accounting.received.messages_by_type["heartbeat"])

            alice.table.send("bob", model(1, Hooked(torch.ones(learned), begun)))
            await bob.until(lambda: len(bob.messages) == 1)
            assert bob.messages[0][1].kind == "test-ping"
            await bob.until(lambda: len(bob.messages) == 2)
            assert bob.messages[1][1].kind == "model"
            # The model alone was 3,000 chunks; nothing else was there to be sent meanwhile.
            assert bob.accounting.received.messages_by_type["heartbeat"] > beaten[0] + 2
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_leaving_is_bounded_even_where_a_peer_does_not_read(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob")
    learned = 20_000_000

    async def main() -> None:
        alice = net.peer("alice", learned=learned, close_timeout_s=0.2)
        bob = net.peer("bob", learned=learned)
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            await nursery.start(bob.table.run)
            await alice.until_up("bob")
            await bob.until_up("alice")
            begun = trio.Event()
            stuck = bob.table._connection("alice")
            assert stuck is not None

            async def hang(buffer: memoryview) -> int:
                await trio.sleep_forever()
                raise AssertionError(buffer)

            # Bob's process hangs: what reaches his socket stays there.
            stuck._stream._read_some = hang  # type: ignore[method-assign]
            alice.table.send("bob", model(1, Hooked(torch.ones(learned), begun.set)))
            with trio.fail_after(20):
                await begun.wait()
                await alice.table.close("leaving")
            assert not bob.messages
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_bug_in_a_handler_ends_one_connection_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(tmp_path, "alice", "bob", "carol")

    async def main() -> None:
        alice, bob, carol = (net.peer(name) for name in ("alice", "bob", "carol"))

        def broken(sender: str, message: Message) -> None:
            if sender == "bob":
                raise RuntimeError("a bug")
            alice.messages.append((sender, message))

        object.__setattr__(alice.table._local, "on_message", broken)
        async with trio.open_nursery() as nursery:
            for peer in (alice, bob, carol):
                await nursery.start(peer.table.run)
            await alice.until_up("bob", "carol")
            await bob.until_up("alice")
            await carol.until_up("alice")
            bob.table.send("alice", Ping(number=1))
            await alice.until(lambda: ("bob", False) in alice.changes)
            assert ("carol", False) not in alice.changes
            # And bob comes back.
            await alice.until_up("bob")
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert any(record.exc_info for record in caplog.records)


def test_what_is_sent_to_a_peer_that_is_down_is_dropped_and_counted(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        alice = net.peer("alice")
        alice.table.send("bob", model(1, torch.ones(16)))
        assert alice.accounting.as_dict()["dropped_messages"] == {"peer down": 1}

    trio.run(main)


def test_a_stranger_who_has_not_shown_who_it_is_costs_little_memory(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob")
    tls = TlsContexts(net.identities["alice"], net.peers)
    strangers = 20

    async def main() -> None:
        tracemalloc.start()
        async with trio.open_nursery() as nursery:
            listening = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
            dialled = [await trio.open_tcp_stream(*listening.socket.getsockname()) for _ in range(strangers)]
            before, _ = tracemalloc.get_traced_memory()
            accepted = [await listening.accept() for _ in dialled]
            for stream in accepted:
                nursery.start_soon(tls.accept, stream)
            await trio.testing.wait_all_tasks_blocked()
            after, _ = tracemalloc.get_traced_memory()
            nursery.cancel_scope.cancel()
        for stream in (*dialled, *accepted, listening):
            await stream.aclose()
        assert after - before < strangers * 64 * 1024

    try:
        trio.run(main)
    finally:
        tracemalloc.stop()


def test_a_peer_that_comes_and_goes_is_not_a_line_in_the_log_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(tmp_path, "alice", "bob")

    async def main() -> None:
        alice = net.peer("alice", contacts=())
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            for times in range(1, 9):
                bob = net.peer("bob", instance=str(times), dial_delay_s=0.0)
                nursery.start_soon(bob.table.run)
                await bob.until_up("alice")
                await bob.table.close("leaving")
                await alice.until(lambda times=times: len(alice.changes) == 2 * times)
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.INFO, logger="gossip"):
        trio.run(main)
    told = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("bob is up") for line in told) == 1


def test_187_offences_of_a_stranger_and_of_a_peer_are_a_line_each_and_one_with_the_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(tmp_path, "alice", "bob")
    now_s = 0.0

    async def main() -> None:
        nonlocal now_s
        alice = net.peer(
            "alice", contacts=(), clock=lambda: now_s, offence_wait_min_s=1e-6, offence_wait_max_s=1e-6
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.table.run)
            for times in range(1, 188):
                async with await trio.open_tcp_stream("127.0.0.1", net.ports["alice"]) as stranger:
                    await stranger.send_all(b"GET / HTTP/1.0\r\n\r\n")
                    await alice.until(lambda times=times: len(alice.rejected) == times)
            for times in range(188, 200):
                async with net.by_hand("bob") as bob:
                    await bob.dial(net.ports["alice"], "alice")
                    await bob.say(Ping(number=1))
                    await alice.until(lambda times=times: len(alice.rejected) == times)
            now_s = 61.0
            alice.table._offences.tell()
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.DEBUG, logger="gossip"):
        trio.run(main)
    told = [record.getMessage() for record in caplog.records if "not TLS" in record.getMessage()]
    assert len(told) == 2
    assert told[1].endswith(" … and 185 more like it in the last minute (61 s ago)")
    told = [record.getMessage() for record in caplog.records if "before the hello" in record.getMessage()]
    assert len(told) == 2
    assert told[1].endswith(" … and 10 more like it in the last minute (61 s ago)")
