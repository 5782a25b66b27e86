"""Noise that neighbours' weights cancel: in numbers, over a round of both engines, and refused where it would not."""

from __future__ import annotations

import re
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scenarios
from gossip.config import load_task
from gossip.config.graphs import build_topology
from gossip.errors import SettingError
from gossip.learner import Learner
from gossip.merging.settings import AverageSettings
from gossip.node.handles import Deferred
from gossip.node.outgoing_models import OutgoingModels
from gossip.outgoing.settings import NoOutgoingSettings, ZeroSumNoiseSettings
from gossip.outgoing.zero_sum import ZeroSum
from gossip.privacy.entropy import OPERATING_SYSTEM
from gossip.protocols.base import Contribution, GossipStep, ModelMessage
from gossip.wire.codecs.settings import Float32Settings
from gossip.wire.tensors import to_torch
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.requests import To
from tests.known_entropy import Seeded
from tests.laws import tried
from tests.virtual_learners import PEERS, W, names_of, task_of, write_task_files

NAMES = ["a", "b", "c", "d", "e"]


@tried(1)
@given(
    weights=st.lists(st.floats(0.01, 0.9), min_size=2, max_size=7),
    length=st.integers(1, 700),
    std=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 10_000),
)
def test_noise_of_all_neighbours_cancels_by_their_weights(weights, length, std, seed):
    z = ZeroSum(ZeroSumNoiseSettings(std=std)).apart(length, weights, Seeded("a", seed))
    assert z.shape == (len(weights), length)
    w = torch.tensor(weights, dtype=torch.float64)
    assert float((w @ z.double()).abs().max()) <= 1e-6 * float((w @ z.double().abs()).max())


def test_every_neighbour_sees_noise_of_the_told_size_at_least_and_each_message_has_its_own():
    stage = ZeroSum(ZeroSumNoiseSettings(std=0.3))
    one, other = (stage.apart(20_000, [0.25, 0.25, 0.2], OPERATING_SYSTEM) for _ in range(2))
    assert float(one.std(1).min()) == pytest.approx(0.3, rel=0.05)
    assert not bool((one == other).any())


def test_the_mean_of_all_models_after_a_step_of_the_virtual_engine_is_the_one_without_noise(tmp_path):
    task = task_of(write_task_files(tmp_path))
    found = {}
    for outgoing in (NoOutgoingSettings(), ZeroSumNoiseSettings(std=0.1)):
        learning = BatchedLearning(task, names_of(), AverageSettings(), outgoing=outgoing)
        models = [learning.initial(k, independent=True) for k in range(PEERS)]
        sent = {}
        for j in range(PEERS):
            to = [i for i in range(PEERS) if i != j and W[i, j]]
            weights = tuple(float(W[i, j]) for i in to)
            message = ModelMessage(round=0, step=0, model=models[j])
            for place, i in enumerate(to):
                each = To(place, weights) if learning.sends_each else None
                sent[i, j] = learning.shaped(models[j], j, message, to=each)
        merged = [
            learning.merge(
                models[i],
                W[i, i],
                [Contribution(f"p{j}", handle, W[i, j]) for (k, j), handle in sent.items() if k == i],
                peer=i,
                at=GossipStep(0),
            )
            for i in range(PEERS)
        ]
        found[outgoing.kind] = learning.stack(merged)
        if learning.sends_each:
            learned = task.space.learned_size
            got = learning.stack([sent[i, 0] for i in (1, 3)])[:, :learned]
            own = learning.stack(models[:1])[0, :learned]
            assert float((got - own).std(1).min()) > 0.08
            assert torch.allclose(got.mean(0), own, atol=1e-6), "two neighbours of equal weight"
    plain, noised = found.values()
    assert float((plain - noised).abs().max()) > 0.01
    assert float((plain.mean(0) - noised.mean(0)).abs().max()) < 1e-6


class AtOnce:
    """A learning thread that does what it is asked when it is asked."""

    def submit(self, job, done):
        done(job())


def test_a_node_sends_what_cancels_and_who_is_served_late_gets_what_belongs_to_it(tmp_path):
    task = task_of(write_task_files(tmp_path))
    merge, outgoing = AverageSettings(), ZeroSumNoiseSettings(std=0.1)
    learner = Learner(
        task, peer="p0", position=0, peers=PEERS, merge=merge.load()(merge), outgoing=ZeroSum(outgoing)
    )
    models = OutgoingModels(codec=Float32Settings().load()(), learner=learner, thread=AtOnce())
    own, learned = learner.initial(), task.space.learned_size
    weights = {"p1": 0.2, "p2": 0.3, "p3": 0.1}

    models_of = {round: Deferred(learned, own.clone()) for round in (4, 5)}

    def sent(round: int, peer: str, *, asked: int | None = None) -> torch.Tensor:
        number = round if asked is None else asked
        message = ModelMessage(round=number, step=0, model=models_of[round])
        (tensor,) = models.coded(message, peer, lambda round: weights).model.value
        return to_torch(tensor).double() - own[:learned].double()

    got = {peer: sent(4, peer) for peer in weights}
    assert float(sum(weights[peer] * z for peer, z in got.items()).abs().max()) < 1e-6
    assert float(min(z.std() for z in got.values())) > 0.07
    assert torch.equal(sent(4, "p2"), got["p2"])
    # Who has finished answers by its last model to whoever is behind, under each step that it is asked for: noise that
    # were another each time would vanish in the mean of the answers.
    for asked in (3, 2, 3):
        assert torch.equal(sent(4, "p2", asked=asked), got["p2"])
    held = weakref.ref(models_of.pop(4))
    assert held() is None, "noise keeps no model"
    assert not bool((sent(5, "p2") == got["p2"]).any())
    assert float(sent(5, "a stranger").std()) > 0.07


def test_in_a_run_the_mean_model_scores_as_without_noise_and_the_peers_own_do_not(tmp_path):
    told = [
        scenarios.run(
            "ring-dfedavg",
            engine="virtual",
            overrides={
                "scenario.peers": 4,
                "stop.rounds": 1,
                "data.train_max": 120,
                "topology.kind": "ring",
                **noise,
            },
            report=False,
            out=tmp_path / name,
        ).summary
        for name, noise in {
            "plain": {},
            "noised": {"outgoing.kind": "zero-sum-noise", "outgoing.std": 0.3},
        }.items()
    ]
    assert told[0]["accuracy_of_mean"] == pytest.approx(told[1]["accuracy_of_mean"], abs=0.003)
    assert told[0]["model_digest"] != told[1]["model_digest"]
    assert told[1]["accuracy"]["mean"] < told[0]["accuracy"]["mean"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("protocol.kind=push", "has none that stay"),
        ("protocol.kind=modest", "has none that stay"),
        ("protocol.weighing=participation", "changes them"),
        ("merge.kind=median", "does not go by them"),
        ("merge.kind=variance-corrected", "does not go by them"),
        ("codec.kind=int8", "rounds each message"),
        ("codec.kind=choco", "[outgoing]"),
        ("topology.kind=pairs", "other neighbours in each round"),
        ("topology.kind=epidemic-push topology.degree=2", "other neighbours in each round"),
        ("topology.kind=star topology.weights=uniform", "no longer one's own"),
        ("topology.kind=star", "a peer with one neighbour"),
        ("final.steps=2 final.topology=full", "go by others"),
    ],
)
def test_where_it_would_not_cancel_it_is_refused_with_one_sentence(setting, said):
    overrides = [
        "algorithm=dfedavg",
        "topology.kind=ring",
        "outgoing.kind=zero-sum-noise",
        *setting.split(),
    ]
    with pytest.raises(SettingError, match=re.escape(said)) as refused:
        build_topology(load_task(overrides=overrides), names=NAMES)
    assert "\n" not in str(refused.value)


def test_what_it_is_good_for_is_said():
    task = load_task(overrides=["algorithm=dfedavg", "topology.kind=ring", "outgoing.kind=zero-sum-noise"])
    build_topology(task, names=NAMES)
    assert any("for one neighbour by itself" in note for note in task.notes)
