"""`[network]` for real processes: the kernel's queues, the seconds of the virtual engine, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip.errors import SettingError
from scenarios import scenario
from scenarios.processes.links import Links
from scenarios.processes.namespaces import new_namespace, path_of, run_inside
from scenarios.processes.server import kept_server
from scenarios.progress import Quiet
from scenarios.virtual.events.network import Latency

SMALL = {
    "scenario.peers": 3,
    "scenario.algorithm": "dfedavg",
    "topology.kind": "ring",
    "data.train_max": 60,
    "stop.rounds": 3,
    "processes.links": "namespaces",
}


def lacks(**network: Any) -> str:
    """Return why links of this kind cannot be made here; nothing where they can."""
    try:
        with Links(scenario.load("quickstart", values=SMALL | network)):
            return ""
    except SettingError as error:
        return str(error)


LACKS_RATES = lacks(**{"network.bandwidth_mbps": 1.0})
LACKS_DELAYS = lacks(**{"network.loss": 0.01})

rates = pytest.mark.skipif(bool(LACKS_RATES), reason=LACKS_RATES)
delays = pytest.mark.skipif(bool(LACKS_DELAYS), reason=LACKS_DELAYS)


def spaces() -> set[str]:
    """Return the network namespaces that any process is in or has open."""
    found = set()
    for place in (*Path("/proc").glob("[0-9]*/ns/net"), *Path("/proc").glob("[0-9]*/fd/*")):
        try:
            target = os.readlink(place)
        except OSError:
            continue
        if target.startswith("net:"):
            found.add(target)
    return found


def run(folder: Path, engine: str, **more: Any) -> dict[str, Any]:
    overrides = SMALL | more
    return scenarios.run(
        "quickstart", engine=engine, out=folder / engine, report=False, overrides=overrides
    ).summary


def seconds_per_round(summary: dict[str, Any]) -> float:
    first, *_, last = summary["curve"]
    return (last["time"] - first["time"]) / (last["round"] - first["round"])


@rates
def test_a_bandwidth_costs_real_processes_the_same_seconds_as_simulated_ones_and_no_namespace_is_left(
    tmp_path: Path,
) -> None:
    before = spaces()
    network = {"network.bandwidth_mbps": 1.0}
    virtual, real = (run(tmp_path, engine, **network) for engine in ("virtual", "processes"))
    assert virtual["bytes"]["protocol"] == real["bytes"]["protocol"]
    # Headers, acknowledgements and this machine's own work come on top; buckets of the queues may begin full.
    assert 0.8 * seconds_per_round(virtual) < seconds_per_round(real) < 3 * seconds_per_round(virtual)
    assert spaces() <= before


@delays
def test_latency_and_loss_cost_real_processes_what_they_cost_simulated_ones(tmp_path: Path) -> None:
    network = {"network.latency_ms": (80, 160), "network.jitter_ms": 5.0, "network.loss": 0.005}
    virtual, real = (run(tmp_path, engine, **network) for engine in ("virtual", "processes"))
    assert 0.8 * seconds_per_round(virtual) < seconds_per_round(real) < 5 * seconds_per_round(virtual)


@rates
def test_nothing_is_left_of_a_run_that_is_interrupted(tmp_path: Path) -> None:
    before = spaces()

    class Interrupted(Quiet):
        def update(self, state: Any) -> None:
            assert len(spaces() - before) == 4
            raise KeyboardInterrupt

    said = SMALL | {"network.bandwidth_mbps": 1.0, "stop.rounds": 1000}
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        scenarios.run(
            "quickstart", engine="processes", out=out, report=False, overrides=said, progress=Interrupted()
        )
    assert spaces() <= before


@rates
def test_nothing_is_left_of_a_run_that_is_killed(tmp_path: Path) -> None:
    before = spaces()
    script = (
        "import time; from scenarios import scenario; from scenarios.processes.links import Links; "
        f"links = Links(scenario.load('quickstart', values={SMALL | {'network.bandwidth_mbps': 1.0}!r})); "
        "links.__enter__(); print('made', flush=True); time.sleep(3600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as engine:
        try:
            assert engine.stdout is not None
            assert engine.stdout.readline() == b"made\n"
            assert len(spaces() - before) == 4
        finally:
            engine.kill()
    assert spaces() <= before


@pytest.fixture(autouse=True, scope="module")
def one_server() -> Iterator[None]:
    with kept_server():
        yield


@rates
def test_a_namespace_is_gone_with_its_last_descriptor() -> None:
    before = spaces()
    descriptor = new_namespace()
    run_inside(descriptor, ["ip", "link", "set", "lo", "up"])
    assert path_of(descriptor).endswith(f"/fd/{descriptor}")
    assert len(spaces() - before) == 1
    os.close(descriptor)
    assert not spaces() - before


def test_each_pair_is_held_up_as_the_virtual_engine_would_have_it() -> None:
    values = SMALL | {"scenario.peers": 5, "network.latency_ms": (50, 300), "network.loss": 0.02}
    values["network.jitter_ms"] = 10.0
    loaded = scenario.load("quickstart", values=values)
    links = Links(loaded)
    latency = Latency(loaded.network, peers=5, seed=loaded.seed)
    for place in range(5):
        lines = links._sending(place, float("inf"), latency)
        flows = {m[1]: m[2] for line in lines if (m := re.search(r"dst (\S+)/32 flowid 1:(\w+)", line))}
        for other, address in enumerate(links.addresses.values()):
            if other == place:
                assert address not in flows
                continue
            (queue,) = [
                line for line in lines if line.startswith(f"qdisc add dev eth0 parent 1:{flows[address]} ")
            ]
            assert f"delay {latency.between(place, other) * 1000 + 5:.3f}ms 5.000ms loss random 2%" in queue


def test_what_is_missing_is_said_and_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        SettingError, match=r"links = 'namespaces': the command 'ip' is missing .*--engine virtual"
    ):
        run(tmp_path, "processes")
    assert not (tmp_path / "processes" / "peers").exists()


def test_a_network_that_is_not_obeyed_is_told_of(tmp_path: Path) -> None:
    said = {"network.latency_ms": 50.0, "processes.links": "loopback", "stop.rounds": 1}
    told: list[str] = []

    class Heard(Quiet):
        def begin(self, scenario: Any) -> None:
            told.extend(scenario.notes)

    scenarios.run(
        "quickstart",
        engine="processes",
        out=tmp_path / "run",
        report=False,
        overrides=SMALL | said,
        progress=Heard(),
    )
    assert any("[network] is not obeyed" in note for note in told)
