"""Public copies (CHOCO): equal at both ends whatever is lost on a link, and the mean of all models is kept."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gossip.config.graphs import build_topology
from gossip.config.task import TaskSettings
from gossip.draws import Draws
from gossip.errors import PeerError, SettingError
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution, GossipStep, ModelMessage
from gossip.wire.codecs.base import Copy
from gossip.wire.codecs.choco import Choco
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import TensorSpec, WireTensor
from gossip.wire.wholes import Chains, Latecomers, Turn
from scenarios.virtual.learning.batched import BatchedLearning
from tests.laws import tried

SIZE = 70
WAYS: list[dict[str, Any]] = [{"compress": "int4"}, {"compress": "int8"}, {"compress": "top", "share": 0.1}]
MESSAGE = ModelMessage(round=0, step=0, model=None)


def codec_of(**way: Any) -> Choco:
    choice = CODECS.validate({"kind": "choco", **way})
    return choice.load()(choice)


class Links(RuleBasedStateMachine):
    """One sender and two receivers, whose messages are lost in all ways that there are."""

    @initialize(way=st.sampled_from(WAYS), seed=st.integers(0, 99))
    def begin(self, way: dict[str, Any], seed: int) -> None:
        self.codec = codec_of(**way)
        self.generator = torch.Generator().manual_seed(seed)
        self.vector = torch.randn(SIZE, generator=self.generator)
        self.copies: dict[str, Copy | None] = {"a": None, "b": None}
        self.fresh: set[str] = set()
        self.restart()

    @rule()
    def restart(self) -> None:
        """The sender's process begins anew, and with it all its connections."""
        self.rows = {"public": torch.zeros(1, SIZE)}
        self.chains, self.number = Chains(), -1
        for peer in self.copies:
            self.reconnect(peer)

    @rule(peer=st.sampled_from("ab"))
    def reconnect(self, peer: str) -> None:
        self.chains.came(peer)
        self.copies[peer] = None
        self.fresh.discard(peer)

    @rule(
        to=st.sets(st.sampled_from("ab"), min_size=1),
        replaced=st.sets(st.sampled_from("ab")),
        unseen=st.sets(st.sampled_from("ab")),
        diverged=st.sampled_from([False] * 5 + [True]),
    )
    def send(self, to: set[str], replaced: set[str], unseen: set[str], diverged: bool) -> None:
        """A message to some, of which copies give way to newer ones, or are not looked at by their receivers."""
        self.vector = self.vector + 0.1 * torch.randn(SIZE, generator=self.generator)
        vector = self.vector.clone()
        if diverged:
            vector[3] = float("nan")
        turn = self.chains.turn(MESSAGE)
        assert turn.number == self.number + 1, "no number is used twice"
        self.number = turn.number
        if turn.whole:
            self.rows = self.codec.told_whole(vector[None], self.rows, numbers=[turn.number])
            tensors: tuple[WireTensor, ...] = ()
        else:
            tensors, self.rows = self.codec.write(
                vector, self.rows, Draws(0, "p", turn.number), number=turn.number
            )
        for peer in sorted(to):
            self.fresh.discard(peer)
            anew = self.chains.alone(peer, turn)
            coming = self.codec.anew(self.rows, number=turn.number) if anew else tensors
            if peer in replaced:
                self.chains.lost(peer)
            elif peer not in unseen:
                self.arrive(peer, coming)
        self.fresh -= {"a", "b"} - to

    def arrive(self, peer: str, tensors: tuple[WireTensor, ...]) -> None:
        copy = self.codec.follow(self.copies[peer], tensors, SIZE)
        if copy is None:
            self.chains.lost(peer)  # it asks
        else:
            self.copies[peer] = copy
            self.fresh.add(peer)

    @invariant()
    def who_has_the_newest_message_has_the_senders_own_copy(self) -> None:
        for peer in getattr(self, "fresh", ()):
            copy = self.copies[peer]
            assert copy is not None
            assert copy.number == self.number
            assert torch.equal(copy.vector.view(torch.int32), self.rows["public"][0].view(torch.int32))

    @rule()
    def all_are_together_after_two_messages_without_losses(self) -> None:
        for _ in range(2):
            self.send({"a", "b"}, set(), set(), False)
        assert self.fresh == {"a", "b"}


TestLinks = Links.TestCase
TestLinks.settings = tried(1, stateful_step_count=12, deadline=None)


@pytest.mark.parametrize("way", WAYS, ids=str)
@given(st.integers(0, 10**6), st.sampled_from([1, 8, 63, 64, 65, 200]))
def test_stacks_hold_to_the_bit_what_receivers_add_up(way, seed, size) -> None:
    codec, generator = codec_of(**way), torch.Generator().manual_seed(seed)
    both = {"public": torch.zeros(2, size)}
    alone = [{"public": torch.zeros(1, size)} for _ in range(2)]
    copies: list[Copy | None] = [None, None]
    for number in range(3):
        vectors = torch.randn(2, size, generator=generator)
        drawn = [Draws(0, f"p{k}", number) for k in range(2)]
        if number:
            coded, both = codec.held(vectors, both, drawn, numbers=[number] * 2)
            assert coded.there is None
        else:
            both = codec.told_whole(vectors, both, numbers=[number] * 2)
        for k in range(2):
            if number:
                tensors, alone[k] = codec.write(vectors[k], alone[k], drawn[k], number=number)
                assert tuple(tensor.spec for tensor in tensors) == codec.specs(size)
            else:
                alone[k] = codec.told_whole(vectors[k : k + 1], alone[k], numbers=[number])
                tensors = codec.anew(alone[k], number=number)
                assert tuple(tensor.spec for tensor in tensors) == codec.anew_specs(size)
            copy = copies[k] = codec.follow(copies[k], tensors, size)
            assert copy is not None
            for held in (both["public"][k], alone[k]["public"][0]):
                assert torch.equal(copy.vector.view(torch.int32), held.view(torch.int32))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_public_copy_of_a_model_that_stays_comes_to_it_geometrically(way) -> None:
    codec, rows = codec_of(**way), {"public": torch.zeros(1, SIZE)}
    vector = torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
    distances = []
    for number in range(1, 81):
        _, rows = codec.write(vector, rows, Draws(0, "p", number), number=number)
        distances.append(float((rows["public"][0] - vector).norm()))
    assert distances[79] < 1e-5 * distances[0] or distances[79] < 1e-6
    assert distances[19] < 0.5 * distances[0]


@pytest.mark.parametrize("way", WAYS, ids=str)
@given(st.randoms(use_true_random=False), st.booleans())
def test_random_bytes_are_a_copy_or_garbage_or_follow_nothing(way, random, anew) -> None:
    codec = codec_of(**way)

    def filled(spec: TensorSpec) -> WireTensor:
        return WireTensor(spec.dtype, spec.shape, memoryview(bytearray(random.randbytes(spec.nbytes))))

    specs = codec.anew_specs(SIZE) if anew else codec.specs(SIZE)
    before = Copy(4, torch.ones(SIZE))
    with contextlib.suppress(PeerError):
        copy = codec.follow(before, [filled(spec) for spec in specs], SIZE)
        assert copy is None or copy.vector.shape == (SIZE,)
    assert torch.equal(before.vector, torch.ones(SIZE))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_only_the_message_after_the_last_is_added_and_a_number_below_none_is_garbage(way) -> None:
    codec, rows = codec_of(**way), {"public": torch.zeros(1, SIZE)}
    copy = codec.follow(None, codec.anew(rows, number=4), SIZE)
    for number in (-(2**63), -1):
        with pytest.raises(PeerError, match=f"numbered {number}"):
            codec.follow(copy, codec.anew(rows, number=number), SIZE)
    for number in (0, 3, 4, 6, 2**63 - 1):
        tensors, _ = codec.write(torch.ones(SIZE), rows, Draws(0, "p", number), number=number)
        assert codec.follow(copy, tensors, SIZE) is None
        assert codec.follow(None, tensors, SIZE) is None


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_part_is_added_to_no_copy(way) -> None:
    codec, rows = codec_of(**way), {"public": torch.zeros(1, 1)}
    tensors, _ = codec.write(torch.ones(1), rows, Draws(0, "p", 5), number=5)
    with pytest.raises(PeerError, match="a part of a model"):
        codec.follow(Copy(4, torch.ones(SIZE)), tensors, 1)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_a_sender_that_has_diverged_once_is_heard_again_and_both_ends_agree(way, bad) -> None:
    codec, rows = codec_of(**way), {"public": torch.zeros(1, SIZE)}
    copy = codec.follow(None, codec.anew(rows, number=0), SIZE)
    for number, first in enumerate((bad, -bad, 1.0, 1.0), start=1):
        vector = torch.ones(SIZE)
        vector[3] = first
        tensors, rows = codec.write(vector, rows, Draws(0, "p", number), number=number)
        copy = codec.follow(copy, tensors, SIZE)
        assert copy is not None
        assert torch.equal(copy.vector.view(torch.int32), rows["public"][0].view(torch.int32))
    assert bool(torch.isfinite(copy.vector).all())


def test_a_process_begins_with_a_model_that_goes_whole_to_everybody() -> None:
    for wholes in (Chains(), Latecomers()):
        turns = [wholes.turn(MESSAGE) for _ in range(3)]
        assert turns == [Turn(0, True), Turn(1, False), Turn(2, False)]


NAMES = ["p0", "p1", "p2", "p3"]
TASK = Task(
    data=DataSettings(train_max=60, test_max=20),
    model=ModelSettings(name="logistic"),
    local=LocalSettings(steps=1),
    seed=1,
    folder=Path(),
)
RING = [[1, 3], [0, 2], [1, 3], [0, 2]]


@pytest.mark.parametrize("way", [*WAYS, {"compress": "int4", "gamma": 0.3}], ids=str)
def test_gossip_keeps_the_mean_of_all_models_however_coarse_and_brings_them_together(way) -> None:
    learning = BatchedLearning(
        TASK, NAMES, AverageSettings(), codec=CODECS.validate({"kind": "choco", **way})
    )
    generator = torch.Generator().manual_seed(0)
    models = torch.randn(4, TASK.space.size, generator=generator)
    handles = [learning.from_vector(model, peer) for peer, model in enumerate(models)]
    mean, spread = models.double().mean(dim=0), float(models.std(dim=0).mean())
    chains = [Chains() for _ in NAMES]
    for step in range(60):
        coded = []
        for peer, handle in enumerate(handles):
            message = ModelMessage(round=step, step=0, model=handle)
            coded.append(learning.coded(handle, peer, message, chains[peer].turn(message)))
        handles = [
            learning.merge(
                handle,
                0.5,
                [Contribution(NAMES[other], coded[other], 0.25) for other in RING[peer]],
                peer=peer,
                at=GossipStep(step),
            )
            for peer, handle in enumerate(handles)
        ]
    models = learning.stack(handles)
    assert float((models.double().mean(dim=0) - mean).abs().max()) < 1e-5
    assert float(models.std(dim=0).mean()) < 0.05 * spread


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": {"kind": "push"}},
        {"protocol": {"kind": "rounds", "parts": 2}},
        {"topology": {"kind": "random-neighbours", "degree": 2}},
        {"merge": {"kind": "krum", "f": 0}},
        {"outgoing": {"kind": "python:FILE:Same"}},
    ],
    ids=str,
)
def test_what_does_not_keep_links_or_the_mean_is_refused_in_one_sentence(other, tmp_path: Path) -> None:
    if "outgoing" in other:
        file = tmp_path / "same.py"
        file.write_text(
            "import gossip\n\n\nclass Same(gossip.Outgoing):\n    def send(self, models, state, draws):\n"
            "        return models, state\n"
        )
        other = {"outgoing": {"kind": f"python:{file}:Same"}}
    tables = {"codec": {"kind": "choco"}, "topology": {"kind": "ring"}, **other}
    task = TaskSettings.model_validate(tables)
    with pytest.raises(SettingError, match=r"^\[codec\] kind = 'choco' [^\n]*; valid: [^\n]*$"):
        build_topology(task, names=[f"p{k}" for k in range(8)])


@pytest.mark.parametrize(
    ("way", "most"), [({"compress": "top"}, "0.7"), ({"compress": "top", "share": 0.01}, "0.07"), ({}, "1")]
)
def test_a_gamma_that_diverges_is_refused_and_says_what_is_not(way, most) -> None:
    with pytest.raises(ValueError, match=f"gamma = 1.1 diverges .*; valid: above 0, at most {most}$"):
        CODECS.validate({"kind": "choco", "gamma": 1.1, **way})
    assert codec_of(gamma=float(most), **way).rate == float(most)
