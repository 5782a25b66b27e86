"""Rows 8 to 10 of `robustness.py`: many peers, slow and late ones, and two cliques."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustness_cases import IID, NONE, Case, case
from robustness_claims import LOOSE, Claim, Rows, Table


def row_8() -> list[Case]:
    cases = []
    for what, graph in (
        ("full", ["topology.kind=full"]),
        ("degree 10", ["topology.kind=regular", "topology.degree=10"]),
        ("degree 8", ["topology.kind=regular", "topology.degree=8"]),
    ):
        more = [*graph, "stop.rounds=100", "evaluate.every=100"]
        cases.append(case("8", what, "bristle", NONE, honest=100, more=more))
    return cases


def claims_8(lines: Table) -> Iterator[Claim]:
    full = lines("full", "bristle").mean
    for what in ("degree 10", "degree 8"):
        loss = full - lines(what, "bristle").mean
        yield Claim(
            "8", f"100 peers, {what}: within 3 points of the full graph ({full:.3f})", loss, loss <= LOOSE
        )


def row_9() -> list[Case]:
    """A local update takes 0.1 s of virtual time, so that 200 rounds take 20 s."""

    def one(what: str, *more: str) -> Case:
        return case("9", what, "bristle", NONE, more=["compute.seconds_per_sample=0.0125", *more])

    return [
        one("steady"),
        one("stragglers", "compute.stragglers=0.2", "compute.slowdown=5.0"),
        # The 150th round of 200.
        one("late", "faults.list=[{at=15.0,do='join',peers=[0]}]"),
        # Forty local updates long.
        one("latency", "network.latency_ms=4000.0"),
    ]


def claims_9(lines: Table) -> Iterator[Claim]:
    steady = lines("steady", "bristle").mean
    for what in ("stragglers", "late", "latency"):
        loss = steady - lines(what, "bristle").mean
        yield Claim("9", f"{what}: at most 3 points below steady ({steady:.3f})", loss, loss <= 0.03)


CLIQUES = ("nna", "self-centered-clipping", "cs-plus")


def two_cliques(out: Path) -> Path:
    """Write the graph: two cliques of five honest peers, joined by five edges, and two attackers, each seen by all."""
    edges = [(a, b) for start in (0, 5) for a in range(start, start + 5) for b in range(a + 1, start + 5)]
    edges += [(k, 5 + k) for k in range(5)]
    edges += [(peer, attacker) for attacker in (10,) for peer in range(10)]
    out.mkdir(parents=True, exist_ok=True)
    path = out.resolve() / "two-cliques.txt"
    path.write_text("".join(f"{a} {b}\n" for a, b in edges), encoding="utf-8")
    return path


def row_10(out: Path) -> list[Case]:
    graph = ["topology.kind=file", f"topology.path={two_cliques(out)}", "stop.rounds=60", "evaluate.every=60"]
    cases = []
    for what, attack in (
        ("none", NONE),
        ("dissensus", ("attack.kind=dissensus",)),
        ("spectral", ("attack.kind=spectral", "attack.scale=2.0")),
    ):
        for rule in CLIQUES:
            f = ["merge.f=1"] if rule == "self-centered-clipping" else []
            cases.append(case("10", what, rule, attack, attackers=1, f=1, data=IID, more=[*f, *graph]))
    return cases


def claims_10(lines: Table) -> Iterator[Claim]:
    def loss(rule: str) -> float:
        return lines("none", rule).mean - min(lines(what, rule).mean for what in ("dissensus", "spectral"))

    for rule in ("cs-plus", "self-centered-clipping"):
        kept = loss(rule)
        yield Claim("10", f"{rule} loses at most 3 points to dissensus or spectral", kept, kept <= LOOSE)
    yield Claim(
        "10", "nna degrades: loses at least 10 points to one of them", loss("nna"), loss("nna") >= 0.1
    )
    for rule in ("cs-plus", "self-centered-clipping"):
        times = (
            max(lines(what, rule).consensus for what in ("dissensus", "spectral"))
            / lines("none", rule).consensus
        )
        yield Claim("10", f"{rule}: consensus distance at most 10 × that of no attack", times, times <= 10)


ROWS: Rows = {
    "8": (lambda out: row_8(), claims_8),
    "9": (lambda out: row_9(), claims_9),
    "10": (row_10, claims_10),
}
