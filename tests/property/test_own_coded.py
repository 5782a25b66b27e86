"""Laws of `[codec] own = "coded"`: the mean of all models is kept however coarse the codes; final steps are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scenarios
from gossip.config.loading import load_task
from gossip.draws import Draws
from gossip.errors import SettingError
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import WHOLE, Contribution, GossipStep, ModelMessage
from gossip.wire.codecs.settings import CODECS
from scenarios.scenario import load
from scenarios.virtual.learning.batched import BatchedLearning
from tests.laws import tried
from topologies import Topology

PEERS = 4
NAMES = [f"p{k}" for k in range(PEERS)]
TASK = Task(
    data=DataSettings(train_max=60, test_max=20),
    model=ModelSettings(name="logistic"),
    local=LocalSettings(steps=1),
    seed=1,
    folder=Path(),
)
RING = Topology("ring", PEERS).matrix(0)


def mixed(kind: str, own: str, vectors: torch.Tensor, step: GossipStep, **more: object) -> torch.Tensor:
    """Return the models (peers, P) after one gossip step on the ring."""
    codec = CODECS.validate({"kind": kind, "own": own, **more})
    learning = BatchedLearning(TASK, NAMES, AverageSettings(), codec=codec)
    models = [learning.from_vector(vector, k) for k, vector in enumerate(vectors)]
    message = [ModelMessage(round=step.round, step=step.step, model=model) for model in models]
    # Of models that travel whole, receivers hold what the sender has.
    sent = models if step.whole else [learning.sent(model, k, message[k]) for k, model in enumerate(models)]
    merged = []
    for k in range(PEERS):
        row = [(j, float(RING[k, j])) for j in range(PEERS) if j != k and RING[k, j] > 0]
        received = [Contribution(NAMES[j], sent[j], weight) for j, weight in row]
        merged.append(learning.merge(models[k], float(RING[k, k]), received, peer=k, at=step))
    return learning.stack(merged)


@tried(0.5)
@given(
    st.sampled_from([("int8", {}), ("int4", {}), ("int4", {"rounding": "nearest"}), ("int8", {"block": 64})]),
    st.integers(0, 2**20),
    st.integers(0, 3),
)
def test_the_mean_of_all_models_is_kept(codec, seed, step) -> None:
    kind, more = codec
    vectors = torch.from_numpy(np.random.default_rng(seed).standard_normal((PEERS, TASK.space.size))).float()
    after = mixed(kind, "coded", vectors, GossipStep(seed % 50, step), **more)
    drift = (after.double().mean(0) - vectors.double().mean(0)).abs().max()
    assert float(drift) < 2e-6
    if "rounding" not in more:
        exact = mixed(kind, "exact", vectors, GossipStep(seed % 50, step), **more)
        assert float((exact.double().mean(0) - vectors.double().mean(0)).abs().max()) > 1e-4


def test_it_is_the_own_model_and_what_mixing_changed_of_what_the_others_hold() -> None:
    vectors = torch.randn(PEERS, TASK.space.size, generator=torch.Generator().manual_seed(3))
    choice = CODECS.validate({"kind": "int4"})
    draws = [Draws(TASK.seed, name, ModelMessage(round=7, step=2, model=None).number) for name in NAMES]
    held = choice.load()(choice).coded(vectors, draws)
    mixing = torch.from_numpy(RING).float()
    wanted = vectors + (mixing @ held - held)
    torch.testing.assert_close(mixed("int4", "coded", vectors, GossipStep(7, 2)), wanted, atol=1e-5, rtol=0)
    wanted = mixing @ held + mixing.diagonal()[:, None] * (vectors - held)
    torch.testing.assert_close(mixed("int4", "exact", vectors, GossipStep(7, 2)), wanted, atol=1e-5, rtol=0)


def test_where_models_travel_whole_the_own_one_is_taken_as_it_is() -> None:
    vectors = torch.randn(PEERS, TASK.space.size, generator=torch.Generator().manual_seed(3))
    whole = mixed("int4", "coded", vectors, GossipStep(7, 2, part=WHOLE, whole=True))
    torch.testing.assert_close(whole, torch.from_numpy(RING).float() @ vectors, atol=1e-6, rtol=0)


def test_final_steps_average_exactly_whatever_the_codec_and_the_own_model(tmp_path: Path) -> None:
    values = {
        "scenario.peers": 4,
        "scenario.algorithm": "dfedavg",
        "data.train_max": 80,
        "data.test_max": 20,
        "model.name": "logistic",
        "topology.kind": "ring",
        "stop.rounds": 2,
        "final.topology": "full",
        "final.steps": 1,
    }
    for own in ("exact", "coded"):
        coded = values | {"codec.kind": "int4", "codec.own": own}
        result = scenarios.run(
            "quickstart", engine="virtual", out=tmp_path / own, report=False, overrides=coded
        )
        assert result.summary["consensus_distance"] < 1e-6, own


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"protocol.kind": "push"}, r"own = 'coded' needs merges that know .* 'push'"),
        ({"protocol.kind": "modest"}, r"own = 'coded' needs merges that know .* 'modest'"),
    ],
)
def test_protocols_that_do_not_know_what_the_others_have_are_refused(values, sentence) -> None:
    with pytest.raises(SettingError, match=sentence):
        load("quickstart", values={"codec.kind": "int8", "codec.own": "coded", **values}).graphs()


def test_a_stage_that_changes_what_is_sent_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "stage.py"
    file.write_text(
        "import gossip\n\nclass Stage(gossip.Outgoing):\n    def send(self, models, state, draws):\n"
        "        return models, state\n"
    )
    values = {"codec.kind": "int8", "codec.own": "coded", "outgoing.kind": f"python:{file}:Stage"}
    with pytest.raises(SettingError, match=r"own = 'coded' takes what is sent"):
        load("quickstart", values=values).graphs()


def test_four_bits_may_be_rounded_to_the_nearest_with_it(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text('[codec]\nkind = "int4"\nrounding = "nearest"\nown = "coded"\n')
    load_task(path)
