"""A key that the field calls otherwise is answered with the one that means the same, not with one that looks alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gossip.config import load_task
from gossip.config.graphs import build_topology
from gossip.config.task import TaskSettings
from gossip.errors import SettingError, nearest
from gossip.learning.settings import PARTITIONS
from gossip.merging.settings import MERGES
from gossip.protocols.settings import PROTOCOLS
from gossip.settings import Settings
from gossip.synonyms import WORDS, meant
from scenarios import scenario
from scenarios.attacks.settings import ATTACKS
from scenarios.scenario import ScenarioSettings
from topologies import FAMILIES

MEANT = [
    ("local.learning_rate=0.1", "lr"),
    ("local.LearningRate=0.1", "lr"),
    ("local.eta=0.1", "lr"),
    ("local.step_size=0.1", "lr"),
    ("local.lr_scheduler=1", "schedule"),
    ("local.warmup=1", "lr_warmup"),
    ("local.optim=1", "optimizer"),
    ("local.epoch=1", "epochs"),
    ("local.num_epochs=1", "epochs"),
    ("local.iterations=1", "steps"),
    ("local.tau=1", "steps"),
    ("local.batch=8", "batch_size"),
    ("local.batchsize=8", "batch_size"),
    ("local.batch-size=8", "batch_size"),
    ("local.wd=1", "weight_decay"),
    ("local.l2=1", "weight_decay"),
    ("local.rho=1", "sam_rho"),
    ("local.max_grad_norm=1", "clip_norm"),
    ("model.hidden_sizes=[3]", "hidden"),
    ("model.layers=[3]", "hidden"),
    ("model.arch=1", "name"),
    ("data.dataset=1", "source"),
    ("data.num_classes=1", "classes"),
    ("data.split=1", "partition"),
    ("data.partition={kind='dirichlet', beta=1}", "alpha"),
    ("protocol.Q=1", "gossip_steps"),
    ("protocol.mixing_steps=1", "gossip_steps"),
    ("topology.k=1", "degree"),
    ("topology.neighbors=1", "degree"),
    ("topology.p=1", "probability"),
    ("topology.kind=complete", "full"),
    ("merge.kind=mean", "average"),
    ("stop.num_rounds=1", "rounds"),
    ("stop.T=1", "rounds"),
    ("evaluate.frequency=1", "every"),
    ("node.num_threads=1", "threads"),
    ("training.lr=1", "local"),
    ("dataset.source=1", "data"),
    ("aggregation.kind=1", "merge"),
    ("compression.kind=1", "codec"),
    ("random_seed=1", "seed"),
    # A key that another section has.
    ("learning_rate=0.1", "lr' of [local]"),
    ("local.num_rounds=3", "rounds' of [stop]"),
    ("model.batch=3", "batch_size' of [local]"),
    ("model.random_seed=3", "seed', above all sections"),
]


@pytest.mark.parametrize(("override", "ours"), MEANT)
def test_the_one_that_means_the_same_is_named(override: str, ours: str) -> None:
    with pytest.raises(SettingError) as caught:
        build_topology(load_task(overrides=[override]), names=("a", "b", "c"))
    hint = str(caught.value).rpartition("did you mean ")[2].strip("?")
    assert hint.removeprefix("'").removesuffix("'") == ours, str(caught.value)


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("[scenario]\nnum_nodes = 3", "peers"),
        ("[network]\nlatency = 3", "latency_ms"),
        ("[network]\nbandwidth = 3", "bandwidth_mbps"),
        ("[network]\npacket_loss = 3", "loss"),
        ("[attack]\nkind = 'nan'\nnum_byzantine = 1", "count"),
        ("[adversary]\nkind = 'nan'", "attack"),
    ],
)
def test_in_scenarios_too(tmp_path: Path, line: str, ours: str) -> None:
    (tmp_path / "mine.toml").write_text(line + "\n")
    with pytest.raises(SettingError, match=f"did you mean '{ours}'"):
        scenario.load(tmp_path / "mine.toml")


def names() -> Iterator[str]:
    """Yield all that may be written as a key, a section, or a kind of those in the table."""
    for model in (TaskSettings, ScenarioSettings):
        for section, field in model.model_fields.items():
            yield section
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
                yield from field.annotation.model_fields
    for seam in (MERGES, PROTOCOLS, PARTITIONS, ATTACKS):
        for choice in seam.ours():
            yield from choice.model_fields
        yield from seam.kinds()
    yield from FAMILIES


def test_every_name_in_the_table_is_one_of_ours() -> None:
    assert set(WORDS) <= set(names())


def test_where_nothing_means_the_same_spelling_decides_and_else_all_are_named() -> None:
    assert nearest("gossip_stepz", ["gossip_steps", "order"]) == "did you mean 'gossip_steps'?"
    assert nearest("zzz", ["b", "a"]) == "valid: a, b"
    assert nearest("zzz", ["b", "a"], elsewhere={"c": "'c' of [d]"}) == "valid: a, b"
    assert list(meant("beta", ["alpha", "momentum"])) == ["momentum", "alpha"]
