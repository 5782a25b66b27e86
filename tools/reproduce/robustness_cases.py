"""Cases of `robustness.py`: data, rules, attacks, and the settings that they come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HONEST = 10

NON_IID = "data.partition={kind='cyclic',classes_per_peer=4,samples_per_class=2,overlap=true}"
IID = "data.partition={kind='cyclic',classes_per_peer=10,samples_per_class=10,overlap=true}"
SCENARIO = {NON_IID: "bristle", IID: "bristle-iid"}
ROUNDS = {NON_IID: 200, IID: 100}
PER_CLASS = {NON_IID: 2, IID: 10}
MOMENTUM = ("local.momentum=0.9", "local.keep_momentum=true", "local.lr=0.1")
"""In the long run the step of the scenario's learning rate, 1."""

F_RULES = (
    "trimmed-mean",
    "krum",
    "multi-krum",
    "nnm+trimmed-mean",
    "nna",
    "cs-plus",
    "mda",
    "smea",
    "caf",
    "ios",
)
"""Rules that are told how many attackers there are."""
OTHERS = ("average", "median", "geometric-median", "ubar", "bristle")
FLIP = ("attack.kind=label-flip",)
NONE = ("attack.kind=none",)
SOME = {
    "sign-flip": ("attack.kind=sign-flip", "attack.of=mean"),
    "ipm": ("attack.kind=ipm",),
    "alie": ("attack.kind=alie",),
    "label-flip": (*FLIP, "attack.merges=true"),
    "gaussian": ("attack.kind=gaussian",),
}
"""Label flippers that follow the protocol in all else."""
ALL_KINDS = {
    "none": NONE,
    **SOME,
    "flip alone": FLIP,
    "optimal-ipm": ("attack.kind=optimal-ipm", "attack.evaluations=8"),
    "optimal-alie": ("attack.kind=optimal-alie", "attack.evaluations=8"),
    "min-max": ("attack.kind=min-max",),
    "min-sum": ("attack.kind=min-sum",),
    "fang-krum": ("attack.kind=fang-krum",),
    "fang-tm": ("attack.kind=fang-trimmed-mean",),
    "mimic": ("attack.kind=mimic",),
    "sybil": ("attack.kind=sybil",),
    "dissensus": ("attack.kind=dissensus",),
    "foreign-swap": ("attack.kind=foreign-swap",),
    "nan": ("attack.kind=nan",),
    "huge-norm": ("attack.kind=huge-norm",),
    "replay": ("attack.kind=replay",),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table: settings, run with every seed."""

    row: str
    what: str
    rule: str
    settings: tuple[str, ...]
    scenario: str = "bristle"
    engine: str = "virtual"


def case(
    row: str,
    what: str,
    rule: str,
    attack: Sequence[str],
    *,
    data: str = NON_IID,
    attackers: int = 0,
    f: int | None = None,
    more: Iterable[str] = (),
    honest: int = HONEST,
) -> Case:
    """Return a case; `f` is what the rules are told, by default the truth as far as a rule can bear it."""
    peers = honest + attackers
    if f is None:
        f = min(attackers, (peers - 1) // 2)
    merge = [f"merge.kind={rule}"]
    if rule in F_RULES:
        merge.append(f"merge.f={f}")
    if rule == "krum":
        merge.append("merge.own_share=0.5")
    rounds = ROUNDS[data]
    if rule == "balance":
        merge.append(f"merge.horizon={rounds}")
    local = ["protocol.gossip_steps=0"] if rule == "local" else []
    settings = (
        f"scenario.peers={peers}",
        data,
        f"stop.rounds={rounds}",
        f"evaluate.every={rounds}",
        *(["merge.kind=average"] if rule == "local" else merge),
        *local,
        *attack,
        f"attack.count={attackers}",
        "attack.data=all",
        f"attack.samples_per_class={PER_CLASS[data]}",
        *more,
    )
    return Case(row, what, rule, settings, SCENARIO[data])
