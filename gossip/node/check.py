"""`gossip-node check`: would a run start here? Files, identity, port, and who answers; nothing is learnt."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import trio

from gossip.errors import ExitCode, NetworkError, PeerError, SettingError
from gossip.net.listening import open_listeners
from gossip.net.peers_file import PeerEntry
from gossip.net.stream import EndOfStream
from gossip.net.tls import TlsContexts
from gossip.node import own_data
from gossip.node.expected import Expected, expect
from gossip.node.options import NodeOptions
from gossip.node.services import check_page
from gossip.node.setup import Membership, Setup, find_membership, load_learning
from gossip.node.status import ask_status
from gossip.telemetry import standard_output
from gossip.telemetry.progress import human_bytes
from gossip.telemetry.web import check_address

REACH_TIMEOUT_S = 5.0
PARAMETER_BYTES = 4
AT_ONCE_MAX = 32
"""Connections tried at a time."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What happened when a neighbour was dialled."""

    name: str
    address: str
    ok: bool
    sentence: str


def check_node(options: NodeOptions) -> ExitCode:
    """Check everything and print what was found.

    Raises:
        UserError: the first thing that would keep a node from starting.
    """
    membership = find_membership(options)
    setup = load_learning(options, membership, touch=False)
    port = _check_port(options, membership)
    if options.metrics is not None:
        check_address(options.metrics, free=not _own_node_runs(options))
    if options.page is not None:
        check_page(options.page, free=not _own_node_runs(options))
    expected = expect(setup)
    reached = trio.run(_reach_all, membership, options.insecure)
    _print(setup, port, reached, expected, as_json=options.as_json)
    answered = sum(each.ok for each in reached)
    needed = min(membership.settings.node.neighbours_min, len(reached))
    return ExitCode.DONE if answered >= needed else ExitCode.TOO_FEW_PEERS


def _check_port(options: NodeOptions, membership: Membership) -> str:
    where = options.listen or str(membership.me.port)
    try:
        trio.run(_listen_once, options, membership)
    except SettingError:
        if not _own_node_runs(options):
            raise
        return f"port {where}: our own node is running and listens there"
    return f"port {where}: free"


def _own_node_runs(options: NodeOptions) -> bool:
    try:
        ask_status(options.home)
    except NetworkError:
        return False
    return True


async def _listen_once(options: NodeOptions, membership: Membership) -> None:
    for listener in await open_listeners(membership.me, options.listen):
        await listener.aclose()


async def _reach_all(membership: Membership, insecure: bool) -> list[Reached]:
    contexts = None
    if not insecure and membership.identity is not None:
        contexts = TlsContexts(membership.identity, membership.peers)
    entries = [entry for entry in membership.peers if entry.name in membership.contacts]
    results: dict[str, Reached] = {}
    limit = trio.CapacityLimiter(AT_ONCE_MAX)

    async def reach(entry: PeerEntry) -> None:
        async with limit:
            results[entry.name] = await _reach(entry, contexts)

    async with trio.open_nursery() as nursery:
        for entry in entries:
            nursery.start_soon(reach, entry)
    return [results[entry.name] for entry in entries]


async def _reach(entry: PeerEntry, contexts: TlsContexts | None) -> Reached:
    try:
        with trio.fail_after(REACH_TIMEOUT_S):
            transport = await trio.open_tcp_stream(entry.host, entry.port)
            async with transport:
                if contexts is None:
                    return Reached(entry.name, entry.address, True, "listens (not authenticated)")
                stream = await contexts.connect(transport, entry.name)
                # With TLS 1.3 a server refuses a client's certificate only after the client is done: its
                # first words tell.
                await stream.receive_into(memoryview(bytearray(1)))
                return Reached(entry.name, entry.address, True, "answers and knows us")
    except PeerError as error:
        return Reached(entry.name, entry.address, False, f"{entry.name} {error}")
    except trio.TooSlowError:
        return Reached(entry.name, entry.address, False, f"no answer within {REACH_TIMEOUT_S:g} s")
    except (NetworkError, EndOfStream) as error:
        return Reached(entry.name, entry.address, False, str(error) or "refused our certificate")
    except OSError as error:
        return Reached(entry.name, entry.address, False, error.strerror or str(error))


def _print(setup: Setup, port: str, reached: list[Reached], expected: Expected, *, as_json: bool) -> None:
    membership, task = setup.membership, setup.task
    device, shape = str(setup.learner.device), task.dataset.input_shape
    resume = setup.checkpoint.round if setup.checkpoint else 0
    doubts = [*membership.settings.notes, *own_data.cautions(setup)]
    if as_json:
        about = {
            "name": membership.me.name,
            "run_id": membership.settings.run_id(),
            "space_id": task.space.space_id,
            "samples": len(setup.learner.shard.y),
            "classes": task.dataset.classes,
            "sample_shape": list(shape),
            "parameters": task.space.size,
            "model_bytes": PARAMETER_BYTES * task.space.size,
            "device": device,
            **expected.as_dict(),
            "resume_round": resume,
            **({} if setup.learner.budget is None else {"privacy": setup.learner.budget.as_dict()}),
            "warnings": doubts,
            "neighbours": [asdict(each) for each in reached],
        }
        standard_output.write(json.dumps(about) + "\n")
        return
    settings = membership.settings
    print(f"{membership.me.name}: one of {len(membership.peers)} peers, run {settings.run_id()}")
    size = f"{task.space.size} parameters ({human_bytes(PARAMETER_BYTES * task.space.size)})"
    print(f"  learns      {settings.model.name}, {size}, by {settings.algorithm}, on {device}")
    print(f"  data        {own_data.told(setup)}")
    print(f"  a sample    {' × '.join(map(str, shape))}, one of {task.dataset.classes} classes")
    for doubt in doubts:
        print(f"  WARNING     {doubt}")
    sends, takes = expected.lines()
    print(f"  sends       {sends}")
    print(f"  takes       {takes}")
    for said in own_data.spending(setup):
        print(f"  privacy     {said}")
    print(f"  starts at   round {resume} of {settings.stop.rounds}")
    print(f"  {port}")
    for each in reached:
        print(f"  {'ok ' if each.ok else 'NOT'}  {each.name} at {each.address}: {each.sentence}")
    print(f"  {sum(each.ok for each in reached)} of {len(reached)} neighbours reachable")
