"""Models of which some numbers came: completed at the merge with the own one, judged by what came."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossip.config.graphs import build_topology
from gossip.config.task import TaskSettings
from gossip.draws import Draws
from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging import sanitise
from gossip.merging.sanitise import NORM, Sanitiser, SanitiseSettings
from gossip.merging.settings import MERGES
from gossip.partial import Partial, completed
from gossip.protocols.base import Contribution, GossipStep, ModelMessage
from gossip.wire.codecs.settings import CODECS
from gossip.wire.wholes import Latecomers, Turn
from scenarios.virtual.learning.batched import BatchedLearning

TASK = Task(
    data=DataSettings(train_max=60, test_max=20),
    model=ModelSettings(name="mlp", hidden=[8]),
    local=LocalSettings(steps=1),
    seed=1,
    folder=Path(),
)
SIZE = TASK.space.learned_size
NAMES = ["p0", "p1", "p2", "p3"]
RULES = [{"kind": "average"}, {"kind": "krum", "f": 1}, {"kind": "nna", "f": 1}]


def merge_of(rule: dict) -> object:
    return MERGES.validate(rule)


def learner_of(rule: dict) -> Learner:
    choice = merge_of(rule)
    return Learner(TASK, peer="p0", position=0, peers=len(NAMES), merge=choice.load()(choice))


def models(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return TASK.initial() + 0.1 * torch.randn(len(NAMES), TASK.space.size, generator=generator)


def some(model: torch.Tensor, seed: int, k: int = SIZE // 4) -> Partial:
    places = torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed))[:k].sort().values
    return Partial(model[places], places, SIZE)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_sees_the_own_model_of_that_merge_where_numbers_did_not_come(rule) -> None:
    own, *others = models(0)
    partial = [some(other, seed) for seed, other in enumerate(others)]
    whole = [completed(own[:SIZE], each) for each in partial]
    merged = [
        learner_of(rule).merge(
            own,
            0.25,
            [Contribution(name, model, 0.25) for name, model in zip(NAMES[1:], received, strict=True)],
            at=GossipStep(0),
        )
        for received in (partial, whole)
    ]
    assert torch.equal(*merged)
    learner = learner_of(rule)
    adopted = learner.adopt(own, [Contribution("p1", partial[0], 1.0)])
    assert torch.equal(adopted[:SIZE], whole[0])
    agreed = learner.agreed(
        own, [Contribution(name, model, 1.0) for name, model in zip(NAMES[1:], partial, strict=True)]
    )
    assert torch.equal(agreed[:SIZE], torch.stack(whole).median(dim=0).values)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_virtual_engine_merges_what_nodes_do_message_after_message(rule) -> None:
    codec = CODECS.validate({"kind": "top-change"})
    learning = BatchedLearning(TASK, NAMES, merge_of(rule), codec=codec)
    coder, learner = codec.load()(codec), learner_of(rule)
    rows = [{name: torch.zeros(1, SIZE) for name in ("sent", "told")} for _ in NAMES]
    for number in range(4):
        now = models(number)
        handles = [learning.from_vector(model, peer) for peer, model in enumerate(now)]
        turn, received, nodes = Turn(number, number == 0), [], []
        for peer in (1, 2, 3):
            message = ModelMessage(round=number, step=0, model=handles[peer])
            shaped = learning.shaped(handles[peer], peer, message)
            received.append(Contribution(NAMES[peer], learning.coded(shaped, peer, message, turn), 0.25))
            vector = now[peer, :SIZE]
            if turn.whole:
                rows[peer] = coder.told_whole(vector[None], rows[peer], numbers=[number])
                nodes.append(Contribution(NAMES[peer], vector, 0.25))
            else:
                tensors, rows[peer] = coder.write(
                    vector, rows[peer], Draws(1, NAMES[peer], number), number=number
                )
                nodes.append(Contribution(NAMES[peer], coder.read(tensors, SIZE), 0.25))
        merged = learning.merge(handles[0], 0.25, received, peer=0, at=GossipStep(number))
        adopted = learning.adopt(handles[0], received[:1])
        agreed = learning.agreed(handles[0], received)
        wanted = learner.merge(now[0], 0.25, nodes, at=GossipStep(number))
        torch.testing.assert_close(learning.vector(merged), wanted, rtol=1e-5, atol=1e-6)
        assert torch.equal(learning.vector(adopted), learner.adopt(now[0], nodes[:1]))
        assert torch.equal(learning.vector(agreed), learner.agreed(now[0], nodes))


def judged(factor: float, k: int) -> list[str]:
    """Return why two partial models are left out, of which the second is `factor` times as long where it came."""
    own = torch.ones(SIZE)
    received = [
        Contribution(name, Partial(scale * torch.ones(k), torch.arange(k), SIZE), 0.3)
        for name, scale in (("p1", 1.0), ("p2", factor))
    ]
    refusals = Sanitiser(SanitiseSettings(), SIZE).judge(
        sanitise.norm_of(own), sanitise.norms_of(own, received), some=sanitise.some_of(own, received)
    )
    return ["" if refusal is None else refusal.reason for refusal in refusals]


@pytest.mark.parametrize("k", [1, 9, SIZE // 4])
def test_what_came_is_measured_against_the_own_numbers_at_its_places_and_not_against_the_whole_model(
    k,
) -> None:
    assert judged(9.9, k) == ["", ""]
    assert judged(10.1, k) == ["", NORM]


def test_the_virtual_engine_refuses_a_length_hidden_in_a_few_numbers_as_nodes_do() -> None:
    learning = BatchedLearning(
        TASK, NAMES, merge_of({"kind": "average"}), codec=CODECS.validate({"kind": "top-change"})
    )
    told: list[str] = []
    learning.on_judged = lambda peer, judged: told.append(judged.verdict.sender)
    own = torch.ones(TASK.space.size)
    liar = own.clone()
    liar[: SIZE // 8] = 20  # 7 √L in all, which would pass, and 14 √k where it came
    received = []
    for peer, model in ((1, own), (2, liar)):
        handle = learning.from_vector(model, peer)
        message = ModelMessage(round=1, step=0, model=handle)
        received.append(
            Contribution(NAMES[peer], learning.coded(handle, peer, message, Turn(1, False)), 0.25)
        )
    merged = learning.merge(learning.from_vector(own, 0), 0.5, received, peer=0, at=GossipStep(1))
    assert torch.equal(learning.vector(merged)[:SIZE], own[:SIZE])
    assert told == ["p2"]


def test_the_first_model_and_one_to_whoever_came_later_go_whole_once() -> None:
    wholes, message = Latecomers(), ModelMessage(round=0, step=0, model=None)
    wholes.came("early")
    assert wholes.turn(message) == Turn(0, True)
    assert not wholes.alone("early", Turn(0, True))
    wholes.came("late")
    assert wholes.turn(message) == Turn(1, False)
    assert [wholes.alone(peer, Turn(1, False)) for peer in ("late", "late", "early")] == [True, False, False]


@pytest.mark.parametrize(
    "other",
    [
        {"merge": {"kind": "median"}},
        {"merge": {"kind": "nnm+trimmed-mean", "f": 1}},
        {"merge": {"kind": "variance-corrected"}},
        {"protocol": {"kind": "push", "parts": 2}},
    ],
    ids=str,
)
def test_what_leaves_nothing_to_mix_is_refused_in_one_sentence(other) -> None:
    task = TaskSettings.model_validate(
        {"codec": {"kind": "top-change"}, "topology": {"kind": "ring"}, **other}
    )
    with pytest.raises(SettingError, match=r"^\[codec\] kind = 'top-change' [^\n]*; valid: [^\n]*$"):
        build_topology(task, names=[f"p{k}" for k in range(8)])
