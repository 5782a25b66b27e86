"""In what the runs of a page differ: as few words as tell them apart, and never fewer.

Two runs are one experiment, repeated, when nothing but their seeds differs. Everything else that differs is named:
what belongs to the rule beside the rule, what belongs to the attack beside the attack, the rest under its own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

NOBODY = "no attack"

VALUE_CHARACTERS_MAX = 32
"""A longer value (a list of faults) is numbered instead."""

UNTOLD = ("scenario.seed", "scenario.description", "scenario.peers")
"""The seed repeats a run, the description says nothing; of the peers the honest and the attackers are told."""

FIRST = ("scenario", "algorithm")
"""What names itself: "d-psgd: krum"."""

Said = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A run's summary, and the tables of its scenario.toml."""

Flat = dict[str, Any]
"""SECTION.KEY -> value."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a run was, in the words that set it apart from the others. Equal for runs that differ by seed alone."""

    rule: str
    """The merge rule, with those of its settings in which runs of this rule differ."""
    attack: str
    """Kind × number, with those of its settings in which attacks of this kind differ."""
    honest: int | None
    """Honest peers; None where they are as many in all runs."""
    others: tuple[tuple[str, str], ...]
    """(name, value) of all else that differs, the scenario and the algorithm first."""
    f: object = None
    """What the rule was told, where `rule` does not say it because it goes with the attack."""

    @property
    def row(self) -> str:
        """Everything but the attack."""
        first = [value for name, value in self.others if name in FIRST]
        rest = [f", {name} = {value}" for name, value in self.others if name not in FIRST]
        return "".join(f"{value}: " for value in first) + self.rule + "".join(rest)

    @property
    def column(self) -> str:
        """The attack, and among how many honest peers, where that differs."""
        return self.attack + ("" if self.honest is None else f", {self.honest} honest")


def experiments(runs: Sequence[Said]) -> list[Experiment]:
    """Return what each run was."""
    flats = [_flat(summary, tables) for summary, tables in runs]
    named = {key: _differs(key, flats) for key in dict.fromkeys(key for flat in flats for key in flat)}
    _spare_f(flats, named)
    rest = [
        key
        for key, where in named.items()
        if where and key != "honest" and not key.startswith(("merge.", "attack."))
    ]
    rest.sort(key=lambda key: (key != "scenario.name", key != "scenario.algorithm"))
    names = _short(rest)
    words = {key: _words([flat.get(key) for flat in flats]) for key in rest}
    several = len({flat["honest"] for flat in flats}) > 1
    return [
        Experiment(
            rule=str(flat["merge.kind"]) + _within(index, flat, "merge.", named),
            attack=_attack(flat) + _within(index, flat, "attack.", named),
            honest=flat["honest"] if several else None,
            others=tuple((names[key], words[key][index]) for key in rest),
            f=None if index in named.get("merge.f", ()) else flat.get("merge.f"),
        )
        for index, flat in enumerate(flats)
    ]


def labels(found: Sequence[Experiment]) -> list[str]:
    """Return the shortest names of the experiments of one page; "" where there is only one."""
    several = {
        part: len({getattr(experiment, part) for experiment in found}) > 1 for part in ("rule", "attack")
    }
    # The attack tells how many honest peers there are, unless one attack met several such numbers.
    crowds = len({(e.attack, e.honest) for e in found}) > len({e.attack for e in found})
    return [
        " · ".join(
            [
                *(value for name, value in experiment.others if name in FIRST),
                *([experiment.rule] if several["rule"] else []),
                *([experiment.attack] if several["attack"] else []),
                *([f"{experiment.honest} honest"] if crowds else []),
                *(f"{name} = {value}" for name, value in experiment.others if name not in FIRST),
            ]
        )
        for experiment in found
    ]


def short_names(keys: Sequence[str]) -> list[str]:
    """Return the last part of each SECTION.KEY, or all of it where that is a kind or a name, or two end alike."""
    ends = [key.rpartition(".")[2] for key in keys]
    return [
        key if end in ("kind", "name") or ends.count(end) > 1 else end
        for key, end in zip(keys, ends, strict=True)
    ]


def _flat(summary: Mapping[str, Any], tables: Mapping[str, Any]) -> Flat:
    """Return a run's settings as far as they mean anything: an attack without attackers has none."""
    flat = {"merge.kind": "average", **_flattened(tables)}
    attack = summary.get("attack")
    # Without gossip nobody merges, whatever the rule would have been.
    alone = flat.get("protocol.gossip_steps") == 0
    for key in list(flat):
        if (
            key in UNTOLD
            or (key.startswith("attack.") and (not attack or key in ("attack.count", "attack.fraction")))
            or (key.startswith("merge.") and alone)
        ):
            del flat[key]
    if alone:
        flat["merge.kind"] = "local"
    if attack:
        flat |= {"attack.kind": attack["kind"], "attack.count": len(attack["attackers"])}
    return {**flat, "engine": summary.get("engine"), "honest": summary.get("honest_peers")}


def _flattened(tables: Mapping[str, Any], before: str = "") -> Flat:
    flat: Flat = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat


def _differs(key: str, flats: Sequence[Flat]) -> frozenset[int]:
    """Return the runs beside which `key` must be named.

    Runs of different scenarios or algorithms, or of different kinds in the key's own section, differ in settings
    that come with these: they are told by those names.
    """
    if key in ("merge.kind", "attack.kind", "attack.count"):
        return frozenset()  # always named
    values: dict[Hashable, set[str]] = {}
    groups = [_group(key, flat) for flat in flats]
    for group, flat in zip(groups, flats, strict=True):
        values.setdefault(group, set()).add(_word(flat.get(key)))
    if not key.startswith(("merge.", "attack.")):
        return frozenset(range(len(flats))) if any(len(v) > 1 for v in values.values()) else frozenset()
    # What one rule is called must not hang on the algorithm: named for the kind, or not.
    kind = key.partition(".")[0] + ".kind"
    of = {group[-1] for group, found in values.items() if len(found) > 1 and isinstance(group, tuple)}
    return frozenset(index for index, flat in enumerate(flats) if flat.get(kind) in of)


def _group(key: str, flat: Flat) -> tuple[Hashable, ...]:
    """Return what decides whether two runs' values of `key` can be held against each other; its kind comes last."""
    match key:
        case "scenario.name":
            above: tuple[str, ...] = ()
        case "scenario.algorithm":
            above = ("scenario.name",)
        case _ if key.startswith(("merge.", "attack.")):
            above = ()
        case _:
            above = ("scenario.name", "scenario.algorithm")
    # Whether anybody gossips is told as the rule "local".
    section = "merge" if key == "protocol.gossip_steps" else key.rpartition(".")[0]
    kind: Hashable = None
    while section and kind is None:
        choice = next((name for name in (f"{section}.kind", f"{section}.name") if name in flat), key)
        kind = None if choice in (key, "scenario.name") else flat[choice]
        section = section.rpartition(".")[0]
    return (*(flat.get(name) for name in above), kind)


def _spare_f(flats: Sequence[Flat], named: dict[str, frozenset[int]]) -> None:
    """Leave f unnamed for rules that were told one f under each attack: the columns of a table say as much."""
    told: dict[Hashable, set[str]] = {}
    for index, flat in enumerate(flats):
        column = _attack(flat) + _within(index, flat, "attack.", named) + str(flat["honest"])
        told.setdefault((flat["merge.kind"], column), set()).add(_word(flat.get("merge.f")))
    kinds = {key[0] for key, values in told.items() if len(values) > 1 and isinstance(key, tuple)}
    if "merge.f" in named:
        named["merge.f"] = frozenset(i for i in named["merge.f"] if flats[i]["merge.kind"] in kinds)


def _attack(flat: Flat) -> str:
    return f"{flat['attack.kind']} × {flat['attack.count']}" if "attack.kind" in flat else NOBODY


def _within(index: int, flat: Flat, section: str, named: Mapping[str, frozenset[int]]) -> str:
    keys = sorted(key for key, runs in named.items() if key.startswith(section) and index in runs)
    told = ", ".join(f"{key.removeprefix(section)} = {_word(flat.get(key))}" for key in keys)
    return f" ({told})" if told else ""


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Return key -> name: the thing chosen for a kind or name, else the last part, in full where these are the same."""
    ends = {}
    for key in keys:
        section, _, last = key.rpartition(".")
        ends[key] = section.rpartition(".")[2] if last in ("kind", "name") and section else last
    counts = Counter(ends.values())
    return {key: key if counts[end] > 1 else end for key, end in ends.items()}


def _words(values: Sequence[object]) -> list[str]:
    """Return how the values of one setting are shown; different ones never alike."""
    words = [_word(value) for value in values]
    different = list(dict.fromkeys(words))
    ends = {word: PurePath(word).name if "/" in word else word for word in different}
    if len(set(ends.values())) < len(different):
        ends = {word: word for word in different}
    if any(len(end) > VALUE_CHARACTERS_MAX for end in ends.values()):
        ends = {word: f"variant {number}" for number, word in enumerate(different, start=1)}
    return [ends[word] for word in words]


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
