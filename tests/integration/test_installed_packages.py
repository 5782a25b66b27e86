"""What an installed package brings by entry points: found at every seam, under a name beside ours."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scenarios
from gossip import plugins
from gossip.config.loading import load_task
from gossip.errors import SettingError
from scenarios.scenario import load
from topologies import FAMILIES

EXAMPLES = Path(__file__).parents[2] / "examples" / "extending"
ENTRY_POINTS = {
    "gossip.merges": "own_merge:HalfMedian",
    "gossip.updates": "own_update:QuasiGlobal",
    "gossip.codecs": "own_codec:OneScaleInt8",
    "gossip.outgoing": "own_outgoing:ClipAndNoise",
    "gossip.protocols": "own_protocol:RandomPairs",
    "gossip.objectives": "own_objective:Margin",
    "gossip.topologies": "own_topology:wheel",
    "gossip.partitions": "own_partition:geometric",
    "gossip.loggers": "own_logger:Best",
    "gossip.attacks": "own_attack:ReversedUpdate",
}
KEYS = {
    "gossip.merges": "merge.kind",
    "gossip.updates": "local.optimizer.kind",
    "gossip.codecs": "codec.kind",
    "gossip.outgoing": "outgoing.kind",
    "gossip.protocols": "protocol.kind",
    "gossip.objectives": "objective.kind",
    "gossip.topologies": "topology.kind",
    "gossip.partitions": "data.partition.kind",
    "gossip.loggers": "logger.kind",
    "gossip.attacks": "attack.kind",
}
SMALL = {"scenario.algorithm": "dfedavg", "scenario.peers": 5, "stop.rounds": 1, "topology.kind": "ring"}
TOGETHER = ("gossip.merges", "gossip.updates", "gossip.codecs", "gossip.topologies", "gossip.partitions")


@pytest.fixture(autouse=True)
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few small peers leave nothing behind, and to look for it would take longer than they do."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples as a package lies in site-packages: modules, and a .dist-info that lists the entry points."""
    site = tmp_path / "site-packages"
    shutil.copytree(EXAMPLES, site)
    (site / "breaks.py").write_text("import a_module_that_nobody_has\n")
    (site / "stranger.py").write_text("class Stranger:\n    pass\n")
    info = site / "acme_gossip-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-gossip\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\nacme = {value}\nacme-breaks = breaks:Anything\nacme-stranger = stranger:Stranger\n"
            for group, value in ENTRY_POINTS.items()
        )
    )
    before = set(sys.modules)
    monkeypatch.syspath_prepend(site)
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()
    FAMILIES.pop("acme", None)
    for name in set(sys.modules) - before:
        if name in ("breaks", "stranger") or name.startswith("own_"):
            del sys.modules[name]


def chosen(group: str, kind: str) -> dict[str, object]:
    values: dict[str, object] = {**SMALL, KEYS[group]: kind}
    if group == "gossip.attacks":
        values["attack.count"] = 1
    if group == "gossip.updates":
        values["local.momentum"] = 0.9
    return values


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_what_a_package_brings_is_found_at_every_seam(group: str) -> None:
    scenario: object = load("quickstart", values=chosen(group, "acme"))
    for part in KEYS[group].split("."):
        scenario = getattr(scenario, part)
    assert scenario == "acme"


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_it_is_among_the_valid_kinds_of_the_sentence(group: str) -> None:
    with pytest.raises(SettingError, match=r"valid: .*\bacme\b"):
        load("quickstart", values=chosen(group, "xyzzyx"))
    with pytest.raises(SettingError, match="did you mean 'acme'"):
        load("quickstart", values=chosen(group, "acmee"))


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_one_that_cannot_be_imported_is_one_sentence(group: str) -> None:
    with pytest.raises(SettingError) as caught:
        load("quickstart", values=chosen(group, "acme-breaks"))
    sentence = str(caught.value)
    assert "'acme-breaks' of an installed package (breaks:Anything) fails: ModuleNotFoundError" in sentence
    assert sentence.startswith(f"override {KEYS[group].rpartition('.')[0]}")
    assert "\n" not in sentence


def test_one_that_is_no_merge_is_one_sentence_with_file_and_line(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    task.write_text('seed = 1\n[merge]\nkind = "acme-stranger"\n')
    with pytest.raises(SettingError, match="is no Merge") as caught:
        load_task(task)
    assert str(caught.value).startswith(f"{task}:2: [merge]")


@pytest.mark.parametrize("groups", [TOGETHER, ("gossip.protocols",), ("gossip.attacks",)])
def test_a_run_with_a_package_is_the_run_with_the_same_as_files(
    groups: tuple[str, ...], tmp_path: Path
) -> None:
    digests = []
    for name in ("package", "files"):
        values: dict[str, object] = {}
        for group in groups:
            module, _, thing = ENTRY_POINTS[group].partition(":")
            kind = "acme" if name == "package" else f"python:{EXAMPLES / module}.py:{thing}"
            values |= {key: value for key, value in chosen(group, kind).items() if key not in SMALL}
            values |= {KEYS[group]: kind}
        result = scenarios.run("quickstart", overrides=SMALL | values, report=False, out=tmp_path / name)
        digests.append(result.summary["model_digest"])
    assert digests[0] == digests[1]
