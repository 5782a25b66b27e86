"""`gossip-scenario advise`: every method that fits, with its bytes and seconds, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from gossip.errors import SettingError
from gossip.telemetry.progress import human_bytes
from scenarios import scenario as scenario_files
from scenarios.advice.costs import Cost, Link, cost_of
from scenarios.advice.methods import Method, methods

BASE = "quickstart"
BASE_VALUES = {"scenario.algorithm": "dfedavg", "topology.kind": "ring"}
"""What methods are laid over where no scenario is named: one exchange of whole models a round, with two neighbours."""

PEERS_MAX = 128
"""Everybody with everybody is a few seconds' work; among more peers, graphs of constant degree cost as much each."""

ROUNDS = 8
MESSAGES_MAX = 60_000
"""Of all rounds together; graphs with more have fewer rounds counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is known for a link."""

    parameters: int
    peers: int
    link: Link
    costs: Sequence[tuple[Method, Cost]]
    left_out: Sequence[tuple[Method, str]]
    """Methods that do not fit, each with the sentence that says why."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {
            "parameters": self.parameters,
            "peers": self.peers,
            "mbps": self.link.mbps,
            "latency_ms": self.link.latency_s * 1000,
            "methods": [
                {
                    "group": method.group,
                    "method": method.name,
                    "set": dict(method.values),
                    **asdict(cost),
                    "when": method.when,
                }
                for method, cost in self.costs
            ],
            "left_out": [{"method": method.name, "why": why} for method, why in self.left_out],
        }


def load(
    scenario: str | None,
    method: Method | None,
    *,
    peers: int | None,
    rounds: int | None,
    overrides: Sequence[str],
) -> scenario_files.ScenarioSettings:
    """Return the scenario with a method over it.

    Raises:
        SettingError: they do not go together.
    """
    values: dict[str, Any] = {} if scenario else dict(BASE_VALUES)
    if peers is not None:
        values["scenario.peers"] = peers
    if rounds is not None:
        values["stop.rounds"] = rounds
    if method is not None:
        values |= method.values
    return scenario_files.load(scenario or BASE, overrides=overrides, values=values)


def advise(
    scenario: str | None,
    *,
    parameters: int | None,
    peers: int | None,
    link: Link,
    overrides: Sequence[str] = (),
) -> Advice:
    """Count what every method costs.

    Args:
        scenario: a library name or file that methods are laid over; None: one exchange a round on a ring.
        parameters: that travel; None: the scenario's model.
        peers: instead of the scenario's.
        link: of every peer.
        overrides: ``SECTION.KEY=VALUE`` for all methods, under what each sets itself.

    Raises:
        SettingError: the scenario cannot be read, or says too little.
    """
    base = load(scenario, None, peers=peers, rounds=None, overrides=overrides)
    peers = base.scenario.peers
    if not 2 <= peers <= PEERS_MAX:
        raise SettingError(
            f"--peers {peers}: valid are 2 to {PEERS_MAX}; among more, what has a constant number of neighbours costs "
            "the same, and 'full' and 'star' grow by their peers"
        )
    if parameters is None:
        parameters = _parameters_of(base)
    costs, left_out = [], []
    for method in methods():
        try:
            chosen = load(scenario, method, peers=peers, rounds=_rounds(method, peers), overrides=overrides)
            costs.append((method, cost_of(chosen, parameters=parameters, link=link)))
        except SettingError as error:
            left_out.append((method, str(error)))
    return Advice(parameters=parameters, peers=peers, link=link, costs=costs, left_out=left_out)


def _rounds(method: Method, peers: int) -> int:
    if method.rounds is not None:
        return method.rounds
    dense = peers * (peers - 1) if method.values.get("topology.kind") == "full" else 8 * peers
    return max(2, min(ROUNDS, MESSAGES_MAX // dense))


def _parameters_of(scenario: scenario_files.ScenarioSettings) -> int:
    """Return how many of the model's numbers travel."""
    from scenarios.processes.averages import load_task

    return load_task(scenario).space.learned_size


def print_advice(console: Console, advice: Advice) -> None:
    """Show it to people."""
    console.print(
        f"{advice.parameters:,} parameters, {advice.peers} peers, {advice.link.mbps:g} Mbit/s up and down, "
        f"{advice.link.latency_s * 1000:g} ms one way; per round, without training",
        highlight=False,
    )
    for group, entries in groupby(advice.costs, key=lambda entry: entry[0].group):
        table = Table(
            group, "a peer sends", "the busiest", "seconds", "what it is, and when", title_justify="left"
        )
        for method, cost in entries:
            table.add_row(
                method.name,
                human_bytes(cost.bytes_per_peer),
                human_bytes(cost.bytes_busiest),
                f"{cost.seconds:.3g}",
                method.when,
            )
        console.print(table)
    for method, why in advice.left_out:
        console.print(f"{method.name} does not fit: {why}", markup=False, highlight=False)
