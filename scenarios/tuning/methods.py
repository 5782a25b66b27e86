"""The methods of a study: the scenario's own algorithm, or several, laid over the scenario by what sets them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossip.config.presets import PRESETS, Sections
from gossip.errors import SettingError, nearest
from scenarios.scenario import ScenarioSettings, load
from scenarios.tuning.space import Parameter, Value, default_space, parse, setting, suits, value_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One algorithm in the scenario, and what is tuned of it."""

    name: str
    overrides: tuple[str, ...]
    """What ``--set`` takes to make the scenario this method's, the user's own overrides among it."""
    space: tuple[Parameter, ...]
    start: Mapping[str, Any]
    """The tuned keys as they stand."""
    tables: Mapping[str, Any]
    """The scenario's tables as they stand, without the seed."""

    def settings(self, params: Mapping[str, Value]) -> tuple[str, ...]:
        """Return the overrides of a trial; none of them is overridden again."""
        kept = (each for each in self.overrides if each.partition("=")[0].strip() not in params)
        return (*kept, *(setting(key, value) for key, value in params.items()))

    def placed(self) -> dict[str, Value] | None:
        """Return the start as a point of the space; `None` where it lies outside."""
        found = {parameter.key: parameter.placed(self.start[parameter.key]) for parameter in self.space}
        return None if None in found.values() else {key: v for key, v in found.items() if v is not None}


def methods(
    scenario: str, algorithms: Sequence[str], overrides: Sequence[str], space: Sequence[str] | None
) -> list[Method]:
    """Return the methods of a study, every setting checked.

    Args:
        scenario: a library name or a .toml file.
        algorithms: presets; none: the scenario's own algorithm.
        overrides: ``SECTION.KEY=VALUE`` that all methods start with.
        space: see `tuning.space.parse`; None: see `default_space`.

    Raises:
        SettingError: one sentence.
    """
    base = load(scenario, overrides=overrides)
    own = base.scenario.algorithm
    names = list(algorithms) or [own]
    _check_names(names)
    written = {argument.partition("=")[0].strip() for argument in overrides}
    if algorithms and "scenario.algorithm" in written:
        raise SettingError("--set scenario.algorithm: the algorithms are those of --algorithms")
    if base.data.test_from_train is not None:
        raise SettingError(
            f"{base.where('data')} test_from_train = {base.data.test_from_train}: tuning sets samples aside itself; "
            "take it away, and give the share with --validation"
        )
    apart = {name: differences(own, name) for name in names}
    _check_apart(apart, written)
    starts: dict[str, tuple[tuple[str, ...], ScenarioSettings]] = {}
    for name in names:
        choice = () if name == own else (f"scenario.algorithm={name}", *apart[name])
        everything = (*choice, *overrides)
        starts[name] = everything, load(scenario, overrides=everything)
    spaces = {name: _space(name, starts, scenario, space) for name in names}
    _check_spaces(spaces, starts, space)
    return [
        Method(
            name=name,
            overrides=everything,
            space=spaces[name],
            start={parameter.key: value_of(settings, parameter.key) for parameter in spaces[name]},
            tables=_without_seed(settings.as_file()),
        )
        for name, (everything, settings) in starts.items()
    ]


def differences(own: str, other: str) -> tuple[str, ...]:
    """Return the overrides that turn a scenario written for the preset `own` into one for `other`.

    Keys on which the two agree stay as the scenario has them; the others are set, or taken away, whatever it says.
    """
    ours, theirs = PRESETS[own], PRESETS[other]
    found: list[str] = []
    for section in dict.fromkeys((*ours, *theirs)):
        found += _section_differences(section, ours, theirs)
    return tuple(found)


def _section_differences(section: str, ours: Sections, theirs: Sections) -> list[str]:
    before, after = ours.get(section, {}), theirs.get(section, {})
    if before.get("kind") != after.get("kind"):
        if "kind" not in after:
            return [f"{section}="]
        # Of another kind nothing stays.
        return [_written(section, key, after[key]) for key in sorted(after, key=lambda key: key != "kind")]
    # What goes, first: epochs and steps exclude each other.
    gone = [f"{section}.{key}=" for key in before if key not in after]
    return gone + [_written(section, key, value) for key, value in after.items() if before.get(key) != value]


def _written(section: str, key: str, value: object) -> str:
    return f"{section}.{key}={value if isinstance(value, str) else json.dumps(value)}"


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in PRESETS:
            raise SettingError(f"--algorithms: unknown algorithm '{name}'; {nearest(name, PRESETS)}")
        if names.count(name) > 1:
            raise SettingError(f"--algorithms: '{name}' stands twice")


def _check_apart(apart: Mapping[str, Sequence[str]], written: set[str]) -> None:
    for name, overrides in apart.items():
        for key in (override.partition("=")[0] for override in overrides):
            if key in written:
                raise SettingError(
                    f"--set {key}: '{name}' is told from the scenario's own algorithm by this key; leave it out, or "
                    "tune one algorithm at a time"
                )


def _space(
    name: str,
    starts: Mapping[str, tuple[tuple[str, ...], ScenarioSettings]],
    scenario: str,
    space: Sequence[str] | None,
) -> tuple[Parameter, ...]:
    overrides, settings = starts[name]
    if space is None:
        return default_space(settings)
    keys = [argument.partition("=")[0].strip() for argument in space]
    if len(set(keys)) < len(keys):
        raise SettingError("--space: the same key stands twice")
    return tuple(
        parse(argument, settings, scenario, overrides)
        for argument, key in zip(space, keys, strict=True)
        if suits(key, settings) is None
    )


def _check_spaces(
    spaces: Mapping[str, Sequence[Parameter]],
    starts: Mapping[str, tuple[tuple[str, ...], ScenarioSettings]],
    space: Sequence[str] | None,
) -> None:
    """Refuse what means nothing to any method, and methods to which nothing means anything."""
    for argument in space or ():
        key = argument.partition("=")[0].strip()
        reasons = {name: suits(key, settings) for name, (_, settings) in starts.items()}
        if all(reasons.values()):
            told = "; ".join(f"'{name}' {reason}" for name, reason in reasons.items())
            raise SettingError(
                f"--space {argument}: {told}; leave it out, or take an algorithm to which it means something"
            )
    for name, found in spaces.items():
        if not found:
            raise SettingError(f"--space: leaves nothing to tune of '{name}'; name a setting that it has")


def _without_seed(tables: dict[str, Any]) -> dict[str, Any]:
    return {**tables, "scenario": {key: v for key, v in tables["scenario"].items() if key != "seed"}}
