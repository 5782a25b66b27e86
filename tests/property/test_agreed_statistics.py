"""Statistics that peers agree on: sums under masks are exact, tell nobody's numbers, and are the same everywhere."""

from __future__ import annotations

import dataclasses
import random
import time
import tomllib
from collections import Counter, deque

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gossip.agreeing import masks
from gossip.agreeing.exchange import BEGINNINGS_MAX, Exchange
from gossip.agreeing.messages import HAVE, SHARE, MaskSeed, Statement
from gossip.agreeing.sums import moments, sums
from gossip.agreeing.tables import Have, common, own_sums, statistics
from gossip.errors import DataError
from gossip.learning.data.measuring import Own
from tests.laws import tried

NUMBERS = st.floats(-1e12, 1e12, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-12)
COLUMNS = st.lists(st.lists(NUMBERS | st.none(), max_size=8), min_size=2, max_size=5)


def column(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


@given(COLUMNS, st.floats(-1e9, 1e9))
def test_mean_and_deviation_are_those_of_all_rows_in_one_place(
    peers: list[list[float | None]], far: float
) -> None:
    parts = [column(values) + far for values in peers]
    pooled = np.concatenate(parts)
    pooled = pooled[~np.isnan(pooled)]
    told = [sums(part) for part in parts]
    count, first, second = (sum(numbers) for numbers in zip(*told, strict=True))
    assert count == len(pooled)
    if not count:
        return
    mean, std = moments(count, first, second)
    exact = pooled.astype(np.longdouble)
    assert mean == pytest.approx(float(exact.mean()), rel=1e-6, abs=1e-6)
    expected = float(np.sqrt(((exact - exact.mean()) ** 2).mean()))
    if expected > 1e-6 * max(1.0, abs(mean)):
        assert std == pytest.approx(expected, rel=1e-6)


@given(st.floats(-1e30, 1e30), st.integers(1, 9))
@example(6.3e-38, 1)  # its square is not a whole number of units
def test_one_value_for_all_has_deviation_one(value: float, rows: int) -> None:
    told = [sums(np.full(rows, value)), sums(np.full(rows + 1, value))]
    mean, std = moments(*(sum(numbers) for numbers in zip(*told, strict=True)))
    assert mean == pytest.approx(value, rel=1e-9)
    assert std == 1.0


@given(st.data())
def test_masks_cancel_whoever_neighbours_whom(data: st.DataObject) -> None:
    peers = data.draw(st.integers(3, 6))
    edges = data.draw(st.sets(st.tuples(st.integers(0, peers - 1), st.integers(0, peers - 1)), min_size=1))
    edges = {(min(pair), max(pair)) for pair in edges if pair[0] != pair[1]}
    numbers = [data.draw(st.lists(st.integers(0, 2**600), min_size=4, max_size=4)) for _ in range(peers)]
    seeds = {pair: (data.draw(st.binary(min_size=32, max_size=32)), bytes(32)) for pair in sorted(edges)}
    shares = []
    for i in range(peers):
        rows = [numbers[i]]
        for (low, high), (of_low, of_high) in seeds.items():
            if i in (low, high):
                own, other = (of_low, of_high) if i == low else (of_high, of_low)
                names = {"own": f"p{i}", "other": f"p{low + high - i}"}
                rows.append(masks.mask(**names, own_seed=own, other_seed=other, session=b"s", count=4))
        shares.append(masks.integers(masks.packed(masks.added(rows))))
    assert masks.added(shares) == masks.added(numbers)


class World:
    """Exchanges whose messages arrive in any order that connections allow, which may end and come again."""

    def __init__(self, graph: nx.Graph, owns: dict[str, Own], seed: int, *, count_min: int = 1) -> None:
        self.rng = random.Random(seed)
        self.graph, self.owns, self.count_min = graph, owns, count_min
        self.queues = {(a, b): deque() for a in graph for b in graph[a]}
        self.up: set[frozenset[str]] = set()
        self.seen: list[tuple[str, str, object]] = []
        self.clock = 0
        self.exchanges: dict[str, Exchange] = {}
        for name in graph:
            self.begin(name)

    def begin(self, name: str) -> None:
        """A process starts, or starts again: its connections are gone."""
        for other in self.graph[name]:
            self.drop(name, other)
        self.clock += 1
        own = self.owns[name]
        self.exchanges[name] = Exchange(
            me=name,
            peers=list(self.graph),
            neighbours=list(self.graph[name]),
            have=Have.of(own, count_min=self.count_min).packed(),
            share=lambda told: own_sums(common(told), own),
            result=lambda told, numbers: statistics(common(told), numbers),
            run_id="run",
            began_us=self.clock,
            send=lambda peer, message: self.send(name, peer, message),
            sign=lambda statement: name.encode() + statement,
            verify=lambda peer, statement, signature: signature == peer.encode() + statement,
        )

    def send(self, sender: str, peer: str, message: object) -> None:
        if frozenset((sender, peer)) in self.up:
            self.queues[sender, peer].append(message)

    def drop(self, a: str, b: str) -> None:
        if frozenset((a, b)) in self.up:
            self.up.discard(frozenset((a, b)))
            self.queues[a, b].clear()
            self.queues[b, a].clear()
            self.exchanges[a].on_peer(b, False)
            self.exchanges[b].on_peer(a, False)

    def connect(self, a: str, b: str) -> None:
        if frozenset((a, b)) not in self.up:
            self.up.add(frozenset((a, b)))
            self.exchanges[a].on_peer(b, True)
            self.exchanges[b].on_peer(a, True)

    def deliver(self) -> bool:
        full = [pair for pair, queue in self.queues.items() if queue]
        if not full:
            return False
        sender, peer = self.rng.choice(full)
        message = self.queues[sender, peer].popleft()
        self.seen.append((sender, peer, message))
        assert self.exchanges[peer].on_message(sender, message) is None
        return True

    def run(self, *, faults: int = 0, restarts: int = 0) -> None:
        """Deliver until nothing is under way, all connected; faults and new beginnings come in between."""
        edges = list(self.graph.edges)
        pending = ["drop"] * faults + ["restart"] * restarts
        self.rng.shuffle(pending)
        while True:
            if pending and self.rng.random() < 0.1:
                if pending.pop() == "drop":
                    self.drop(*self.rng.choice(edges))
                else:
                    self.begin(
                        self.rng.choice([n for n in self.graph if not self.exchanges[n].over] or ["a"])
                    )
            for edge in edges:
                if self.rng.random() < 0.2 or not pending:
                    self.connect(*edge)
            if not self.deliver() and not pending:
                return


def owned(numbers: dict[str, list[float | None]], words: dict[str, str] | None = None, **more: object) -> Own:
    """Return what a table has: columns of numbers, columns of text as words between spaces, and labels."""
    told = {name: Counter(text.split()) for name, text in (words or {}).items()}
    labels = {"class_names": None, "label_max": None, **more}
    sorts = {**dict.fromkeys(numbers, "number"), **dict.fromkeys(told, "text")}
    return Own(sorts=sorts, numbers={n: column(v) for n, v in numbers.items()}, words=told, **labels)


def graphs() -> st.SearchStrategy[nx.Graph]:
    return st.sampled_from([nx.complete_graph(3), nx.cycle_graph(5), nx.complete_graph(4)]).map(
        lambda graph: nx.relabel_nodes(graph, dict(enumerate("abcdef")))
    )


@tried(1)
@given(graphs(), st.integers(0, 2**32), st.integers(0, 4), st.integers(0, 2))
def test_all_have_the_same_bytes_in_whatever_order_things_come(
    graph: nx.Graph, seed: int, faults: int, restarts: int
) -> None:
    draw = random.Random(seed)
    values = {name: [draw.gauss(5, 2) for _ in range(draw.randint(1, 6))] for name in graph}
    owns = {
        name: owned(
            {"size": values[name]},
            {"colour": draw.choice(["red", "red blue", "green"])},
            class_names=Counter(draw.choice(["yes", "yes no", "no maybe"]).split()),
        )
        for name in graph
    }
    owns["a"] = owned({"size": values["a"]}, {"colour": "red"}, class_names=Counter(["yes", "no"]))
    world = World(graph, owns, seed)
    world.run(faults=faults, restarts=restarts)
    outcomes = {exchange.outcome for exchange in world.exchanges.values()}
    lost = any(each.over for each in world.exchanges.values()) and None in outcomes and restarts
    if lost:  # who begins again when others have ended already is left alone, and says so after a while
        outcomes.discard(None)
    assert len(outcomes) == 1
    assert None not in outcomes
    text = outcomes.pop().decode()
    pooled = np.concatenate(list(values.values()))
    found = tomllib.loads(text)
    assert found["statistics"]["size"] == pytest.approx([pooled.mean(), pooled.std()], rel=1e-6)
    assert found["class_names"] == sorted({word for own in owns.values() for word in own.class_names})
    assert found["categories"]["colour"] == sorted(
        {word for own in owns.values() for word in own.words["colour"]}
    )


def test_no_share_is_a_peers_own_numbers_and_none_is_twice_the_same() -> None:
    graph = nx.relabel_nodes(nx.complete_graph(3), dict(enumerate("abc")))
    owns = {name: owned({"x": [1.0, 2.0]}) for name in graph}
    shares = set()
    for seed in range(3):
        world = World(graph, owns, seed)
        world.run()
        told = {
            (each.origin, each.payload)
            for _, _, each in world.seen
            if isinstance(each, Statement) and each.step == SHARE
        }
        assert len(told) == 3
        assert not shares & told
        shares |= told
    plain = masks.packed(
        own_sums(common({n: Have.of(o, count_min=1).packed() for n, o in owns.items()}), owns["a"])
    )
    assert all(payload != plain for _, payload in shares)


def test_a_seed_goes_to_one_neighbour_only() -> None:
    graph = nx.relabel_nodes(nx.complete_graph(4), dict(enumerate("abcd")))
    world = World(graph, {name: owned({"x": [1.0]}) for name in graph}, 1)
    world.run()
    seeds = [each.seed for _, _, each in world.seen if isinstance(each, MaskSeed)]
    assert len(seeds) == len(set(seeds)) == 12


def test_a_statement_that_somebody_has_changed_on_its_way_is_of_no_use() -> None:
    graph = nx.relabel_nodes(nx.complete_graph(3), dict(enumerate("abc")))
    world = World(graph, {name: owned({"x": [1.0]}) for name in graph}, 1)
    world.connect("a", "b")
    told = next(each for each in world.queues["a", "b"] if isinstance(each, Statement))
    forged = Statement(**{key: getattr(told, key) for key in told.__slots__} | {"payload": b"other"})
    assert world.exchanges["b"].on_message("a", forged) == "signature"
    assert world.exchanges["b"].missing() == ("what its table has", frozenset("ac"))
    assert told.step == HAVE


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (owned({"x": [1.0], "y": [2.0]}), "no column 'y', which b has"),
        (owned({}, {"x": "small"}), "column 'x' holds numbers at a and text at b"),
        (owned({"x": [1.0]}, class_names=Counter(["yes"])), "labels are names at b and numbers at a"),
    ],
)
def test_tables_that_do_not_fit_together_are_one_sentence_at_all(other: Own, sentence: str) -> None:
    graph = nx.relabel_nodes(nx.complete_graph(3), dict(enumerate("abc")))
    owns = {"a": owned({"x": [1.0]}, label_max=1), "b": other, "c": owned({"x": [1.0]}, label_max=1)}
    world = World(graph, owns, 1)
    world.run()
    said = {str(exchange.failure) for exchange in world.exchanges.values()}
    assert len(said) == 1
    assert sentence in said.pop()
    assert all(exchange.outcome is None for exchange in world.exchanges.values())


def packed(**labels: object) -> bytes:
    return Have.of(owned({"x": [1.0]}, **labels), count_min=1).packed()


@pytest.mark.parametrize(
    ("others", "liar"),
    [
        ({"label_max": 9}, {"label_max": 1000}),
        ({"class_names": Counter(["yes", "no"])}, {"class_names": Counter(map(str, range(1000)))}),
    ],
)
def test_most_of_many_classes_are_not_believed_by_one_peers_word(others, liar) -> None:
    with pytest.raises(DataError, match="b alone tells of most of 100"):
        common({"a": packed(**others), "b": packed(**liar), "c": packed(**others)})
    many = common({"a": packed(**others), "b": packed(**liar), "c": packed(**liar)})
    assert (many.classes or len(many.class_names)) > 1000
    few = common({"a": packed(label_max=9), "b": packed(label_max=999), "c": packed(label_max=9)})
    assert few.classes == 1000


def test_a_text_in_few_rows_is_not_told() -> None:
    own = owned({}, {"job": "nurse nurse king"})
    assert Have.of(own, count_min=2).words == {"job": ["nurse"]}
    with pytest.raises(DataError, match="no text that rows enough have"):
        common({name: Have.of(own, count_min=9).packed() for name in "abc"})


def pair_of(world: World) -> tuple[Exchange, list[Statement]]:
    """Return b of a, b, c, and what a tells it when they meet."""
    world.connect("a", "b")
    return world.exchanges["b"], [each for each in world.queues["a", "b"] if isinstance(each, Statement)]


def told_as(origin: str, **more: object) -> Statement:
    """Return a statement that its origin has signed."""
    fields = {
        "step": HAVE,
        "began_us": 9,
        "session": bytes(32),
        "part": 0,
        "parts": 1,
        "payload": b"x",
        **more,
    }
    bare = Statement(origin=origin, signature=b"", **fields)
    return dataclasses.replace(bare, signature=origin.encode() + bare.signed("run"))


def three(*columns: list[float | None]) -> World:
    graph = nx.relabel_nodes(nx.complete_graph(3), dict(enumerate("abc")))
    values = columns or ([1.0], [2.0], [3.0])
    return World(graph, {name: owned({"x": each}) for name, each in zip("abc", values, strict=True)}, 1)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (told_as("d"), "statement"),
        (told_as("a", step=7), "statement"),
        (told_as("a", session=b"short"), "statement"),
        (told_as("a", part=1), "statement"),
        (told_as("a", parts=10**6), "statement"),
        (dataclasses.replace(told_as("a"), origin="c"), "signature"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_a_peer_may_not_say_is_of_no_use(statement: Statement, reason: str) -> None:
    exchange, _ = pair_of(three())
    assert exchange.on_message("a", statement) == reason


def test_who_is_no_neighbour_is_not_heard_though_it_is_of_the_file() -> None:
    graph = nx.relabel_nodes(nx.path_graph(3), dict(enumerate("abc")))
    exchange = World(graph, {name: owned({"x": [1.0]}) for name in "abc"}, 1).exchanges["a"]
    assert exchange.on_message("c", told_as("b")) == "no neighbour"
    assert exchange.on_message("c", MaskSeed(instance=bytes(32), seed=bytes(32))) == "no neighbour"


def test_a_clock_that_has_gone_back_keeps_nobody_from_agreeing() -> None:
    world = three()
    world.clock = 1000
    world.begin("c")
    world.connect("a", "c")
    while world.deliver():
        pass  # a has heard of it, and lacks b's shares
    world.clock = 5
    world.begin("c")
    world.run()
    assert len({exchange.outcome for exchange in world.exchanges.values()}) == 1
    assert world.exchanges["a"].outcome is not None


def test_names_of_peers_are_shown_without_what_moves_a_terminal_and_compared_at_once() -> None:
    good, evil = (
        Have.of(owned({name: [1.0]}), count_min=1).packed() for name in ("x", "\x1b[2J\n\r" + "y" * 900)
    )
    with pytest.raises(DataError) as caught:
        common({"a": evil, "b": good, "c": good})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
    names = [f"{number:04d}" for number in range(10_000)]
    one, two = (
        Have.of(owned({name: [] for name in each}), count_min=1).packed() for each in (names, names[::-1])
    )
    began_s = time.process_time()
    with pytest.raises(DataError, match="in another order"):
        common({"a": one, "b": two, "c": two})
    assert time.process_time() - began_s < 2.0  # a hundred million comparisons take more


def test_who_contradicts_itself_is_not_believed() -> None:
    exchange, _ = pair_of(three())
    assert exchange.on_message("a", told_as("c")) is None
    assert exchange.on_message("a", told_as("c", payload=b"y")) == "contradiction"
    assert exchange.on_message("a", told_as("c", part=1, parts=2)) == "contradiction"


def test_who_begins_for_ever_ends_it_with_a_sentence() -> None:
    exchange, _ = pair_of(three())
    for count in range(2 * BEGINNINGS_MAX):
        exchange.on_message("a", told_as("c", began_us=count))
    assert str(exchange.failure) == "c begins again and again; start again without it"


def test_seeds_of_an_earlier_start_mask_nothing() -> None:
    world = three()
    for pair in ("ab", "ac", "bc"):
        world.connect(*pair)
    while world.deliver():
        pass
    assert world.exchanges["a"].outcome is not None
    world = three()
    world.connect("a", "b")
    world.connect("b", "c")
    world.exchanges["b"].on_message("a", MaskSeed(instance=bytes(32), seed=bytes(32)))
    while any(world.queues.values()):
        world.queues["a", "b"] = deque(m for m in world.queues["a", "b"] if not isinstance(m, MaskSeed))
        world.deliver()
    assert world.exchanges["b"].missing() == ("its half of a mask", frozenset("a"))


@pytest.mark.parametrize("told", [[-1, 0, 0], [5, 0, -(10**200)], [2, 10**180, 0], [2, 0, 10**190]], ids=str)
def test_sums_that_no_rows_can_have_are_refused_everywhere(told: list[int]) -> None:
    world = three()
    liar = world.exchanges["b"]
    others = [sums(column(own.numbers["x"].tolist())) for name, own in world.owns.items() if name != "b"]
    lie = [want - sum(each) for want, each in zip(told, zip(*others, strict=True), strict=True)]
    liar._share_of = lambda have: lie
    world.run()
    for exchange in world.exchanges.values():
        assert "no rows have such sums; a peer tells what is not so" in str(exchange.failure)
        assert exchange.outcome is None


@pytest.mark.parametrize("count", [0, 2, 4, 3000])
def test_who_tells_other_numbers_than_are_asked_for_is_named(count: int) -> None:
    world = three()
    world.exchanges["b"]._share_of = lambda have: [1] * count
    world.run()
    for name in "ac":
        assert str(world.exchanges[name].failure).startswith("b tells other numbers than are asked for")


def test_all_that_a_statement_says_and_the_run_it_is_of_are_signed() -> None:
    statement = told_as("a")
    changes = {
        "origin": "b",
        "step": SHARE,
        "began_us": 10,
        "session": bytes(31) + b"1",
        "part": 1,
        "parts": 2,
        "payload": b"y",
    }
    assert {*changes, "signature"} == {field.name for field in dataclasses.fields(Statement)}
    others = [
        dataclasses.replace(statement, **{name: value}).signed("run") for name, value in changes.items()
    ]
    signed = [statement.signed("run"), statement.signed("other run"), *others]
    assert len(set(signed)) == len(signed)


def test_two_columns_of_one_name_are_refused() -> None:
    good = Have.of(owned({"x": [1.0]}), count_min=1).packed()
    twice = good.replace(b'["x","number"]', b'["x","number"],["x","number"]')
    with pytest.raises(DataError, match="b tells of two columns with one name"):
        common({"a": good, "b": twice, "c": good})


def test_nothing_is_written_where_results_differ() -> None:
    world = three()
    made = world.exchanges["c"]._result_of
    world.exchanges["c"]._result_of = lambda told, numbers: made(told, numbers) + b"# mine\n"
    world.run()
    assert {exchange.outcome for exchange in world.exchanges.values()} == {None}
    assert all(
        "has made something else of the same numbers" in str(e.failure) for e in world.exchanges.values()
    )


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'{"columns": 3}', b"[" * 10**5, b'{"columns": [["x", "odd"]]}']
)
def test_what_is_no_table_is_a_sentence(payload: bytes) -> None:
    good = Have.of(owned({"x": [1.0]}), count_min=1).packed()
    with pytest.raises(DataError, match="what b tells of its table is no such thing"):
        common({"a": good, "b": payload, "c": good})
