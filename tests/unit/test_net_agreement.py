"""Two peers whose settings differ in what a run has in common do not learn together, and are told in what."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossip.config.task import TaskSettings
from gossip.errors import PeerError
from gossip.net.settings import NetSettings
from gossip.wire.agreement import Agreement
from gossip.wire.documents import Document, Envelope
from gossip.wire.messages import Hello, type_of

OWN = Path(__file__).parents[2] / "examples" / "extending" / "own_outgoing.py"

COMMON = {
    "seed": {"seed": 1},
    "data.partition": {"data": {"partition": {"kind": "dirichlet", "alpha": 0.3}}},
    "data.class_subset": {"data": {"class_subset": [0, 1]}},
    "data.test_from_train": {"data": {"test_from_train": 0.2}},
    "data.test_fraction": {"data": {"test_fraction": 0.3}},
    "data.target": {"data": {"target": "kind"}},
    "data.columns": {"data": {"columns": ["age"]}},
    "data.drop": {"data": {"drop": ["id"]}},
    "data.categories": {"data": {"categories": {"colour": ["blue", "red"]}}},
    "data.class_names": {"data": {"class_names": ["no", "yes"]}},
    "data.missing": {"data": {"missing": "mean"}},
    "data.standardise": {"data": {"standardise": "own"}},
    "data.image_size": {"data": {"image_size": [8, 8]}},
    "data.image_mode": {"data": {"image_mode": "L"}},
    "model": {"model": {"hidden": [7]}},
    "local": {"local": {"lr": 0.123}},
    "protocol": {"protocol": {"kind": "push"}},
    "merge": {"merge": {"kind": "variance-corrected"}},
    "codec": {"codec": {"kind": "float16"}},
    "outgoing": {"outgoing": {"kind": f"python:{OWN}:ClipAndNoise"}},
    "topology": {"topology": {"kind": "ring"}},
    "objective": {"objective": {"kind": "regression"}},
    "stop": {"stop": {"rounds": 51}},
    "outer": {"outer": {"kind": "nesterov"}},
    "final": {"final": {"steps": 3}},
    "channel": {"channel": {"kind": "prototypes"}},
}
"""A section that all peers of a run share, and settings that differ from the defaults there and nowhere else."""

OWN_AFFAIRS = {"algorithm", "privacy", "sanitise", "evaluate", "logger", "node", "net"}
"""Sections that each peer chooses for itself. A preset has only filled the other sections by the time of the hello."""


def settings_of(section: str) -> TaskSettings:
    return TaskSettings.model_validate(COMMON[section])


def agreement_of(settings: TaskSettings) -> Agreement:
    return Agreement(run_id="run", sections=tuple(sorted(settings.agreement().items())), space_id="space")


def greet(ours: Agreement, theirs: Agreement) -> None:
    """Hold the hello of one who has `theirs` against `ours`."""
    hello = Hello(agreement=theirs.sections, instance="1", peers_digest="")
    kind = type_of("hello")
    assert kind is not None
    ours.check_hello(Document(Envelope(theirs.run_id, theirs.space_id, "bob"), 1, kind, {}), hello)


def test_every_section_is_common_to_a_run_or_ones_own_affair() -> None:
    """A new section has to be put on one of the two sides, and one that is dropped from the agreement shows here."""
    assert {name.partition(".")[0] for name in COMMON} | OWN_AFFAIRS == set(TaskSettings.model_fields)
    compared = set(TaskSettings().agreement())
    for written in COMMON:
        compared |= set(settings_of(written).agreement())
    assert compared == set(COMMON)


@pytest.mark.parametrize("section", COMMON)
def test_a_difference_in_any_common_section_is_refused_and_named(section: str) -> None:
    ours, theirs = agreement_of(TaskSettings()), agreement_of(settings_of(section))
    for one, other in ((ours, theirs), (theirs, ours)):
        with pytest.raises(PeerError) as caught:
            greet(one, other)
        assert caught.value.reason == "run"
        assert str(caught.value) == f"is in another run: its settings differ in [{section}]"


@pytest.mark.parametrize("section", COMMON)
def test_a_section_that_only_one_side_knows_is_refused(section: str) -> None:
    """As between versions of which one has a setting more."""
    ours = agreement_of(settings_of(section))
    less = Agreement("run", tuple(entry for entry in ours.sections if entry[0] != section), "space")
    for one, other in ((ours, less), (less, ours)):
        with pytest.raises(PeerError, match=r"differ in \[" + section):
            greet(one, other)


def test_given_statistics_are_compared_by_column() -> None:
    def given(mean: float) -> Agreement:
        data = {"standardise": "given", "statistics": {"age": [mean, 2.0]}}
        return agreement_of(TaskSettings.model_validate({"data": data}))

    greet(given(40.0), given(40.0))
    with pytest.raises(PeerError, match=r"differ in \[data.statistics\]"):
        greet(given(40.0), given(41.0))


def test_which_of_ones_own_data_are_tested_on_and_the_order_of_what_is_dropped_keep_nobody_apart() -> None:
    def of(**data: object) -> Agreement:
        return agreement_of(TaskSettings.model_validate({"data": {"partition": {"kind": "own"}, **data}}))

    greet(of(test_fraction=0.3), of(test="mine.csv"))
    greet(of(drop=["a", "b"]), of(drop=["b", "a"]))
    with pytest.raises(PeerError):
        greet(of(columns=["a", "b"]), of(columns=["b", "a"]))


def test_what_is_ones_own_affair_keeps_nobody_apart() -> None:
    greet(
        agreement_of(TaskSettings()),
        agreement_of(TaskSettings(net=NetSettings(heartbeat_s=3.0), algorithm="d-psgd")),
    )


@pytest.mark.parametrize(("field", "reason"), [("run_id", "run"), ("space_id", "space")])
def test_another_run_or_model_with_the_same_settings_is_refused(field: str, reason: str) -> None:
    ours = agreement_of(TaskSettings())
    theirs = Agreement(**{"run_id": "run", "sections": ours.sections, "space_id": "space", field: "other"})
    with pytest.raises(PeerError) as caught:
        greet(ours, theirs)
    assert caught.value.reason == reason
