"""What may be tuned, and between which bounds: `--space`, and what is searched where nobody says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from gossip.config.layers import parse_override
from gossip.errors import SettingError
from scenarios.scenario import ScenarioSettings, load
from scenarios.sweep import parse_axis

Value: TypeAlias = float | int | str
"""Of a tuned setting; the word of a choice as it is written."""

FORM = "must look like KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=V1,V2,…"

LOG_FROM = 10.0
"""Positive numbers between bounds with at least this ratio are searched by their logarithm, unless it is said."""

DIGITS = 3
"""Significant ones of a tuned number: what is printed is what was run."""

NOT_TUNED = {
    "scenario.seed": "the seeds are given by --seeds and --held-out-seeds",
    "scenario.algorithm": "algorithms are compared with --algorithms",
    "data.test_from_train": "the share that is set aside is given by --validation",
}

LR = 1e-3, 1.0
RHO = {"standard": (0.005, 0.5), "adaptive": (0.05, 5.0)}
GOSSIP_STEPS = 1, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One tuned setting: a range, or a list of choices."""

    key: str
    """SECTION.KEY."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    def rounded(self, value: Value) -> Value:
        """Return the value as it is run: of few digits, and within the bounds."""
        if isinstance(value, str) or self.whole:
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def placed(self, value: object) -> Value | None:
        """Return what a setting's value is in this space; `None` where it lies outside."""
        if self.choices:
            return next((word for word in self.choices if _parsed(self.key, word) == value), None)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return (int(value) if self.whole else float(value)) if self.low <= value <= self.high else None

    def as_table(self) -> dict[str, Any]:
        """Return it as plain values."""
        if self.choices:
            return {"key": self.key, "choices": list(self.choices)}
        kind = {"log": self.log, "whole": self.whole}
        return {"key": self.key, "low": self.low, "high": self.high, **kind}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Parameter:
        """Return what `as_table` told."""
        return cls(**{**table, "choices": tuple(table.get("choices", ()))})

    def __str__(self) -> str:
        if self.choices:
            return f"{self.key} among {', '.join(self.choices)}"
        return f"{self.key} from {self.low:g} to {self.high:g}" + (" by its logarithm" if self.log else "")


def setting(key: str, value: Value) -> str:
    """Return what ``--set`` takes."""
    return f"{key}={value}" if isinstance(value, (str, int)) else f"{key}={value!r}"


def default_space(settings: ScenarioSettings) -> tuple[Parameter, ...]:
    """Return what is searched where nobody says: η; ρ where SAM trains; Q where there are several gossip steps.

    A method stays what it is: SAM is not added to one without, nor gossip steps to one that has one.
    """
    low, high = LR
    found = [Parameter(key="local.lr", low=low, high=high, log=True)]
    if settings.local.sam_rho:
        low, high = RHO[settings.local.sam]
        found.append(Parameter(key="local.sam_rho", low=low, high=high, log=True))
    if getattr(settings.protocol, "gossip_steps", 0) > 1:
        low, high = GOSSIP_STEPS
        found.append(Parameter(key="protocol.gossip_steps", low=low, high=high, whole=True))
    return tuple(found)


def suits(key: str, settings: ScenarioSettings) -> str | None:
    """Return why a key means nothing to a method, if so: one without SAM has no radius, one without gossip no steps."""
    if key in ("local.sam_rho", "local.sam", "local.sam_eta") and not settings.local.sam_rho:
        return "trains without SAM (sam_rho = 0)"
    if key == "protocol.gossip_steps" and not getattr(settings.protocol, "gossip_steps", 0):
        return "has no gossip steps"
    return None


def parse(argument: str, settings: ScenarioSettings, scenario: str, overrides: tuple[str, ...]) -> Parameter:
    """Turn ``KEY=LOW..HIGH[:log|:linear]`` or ``KEY=V1,V2,…`` into a parameter of the method that has `settings`.

    Raises:
        SettingError: it is malformed, the bounds are the wrong way round, or a value at its ends is refused.
    """
    key, sign, text = (part.strip() for part in argument.partition("="))
    if not sign or not key or not text:
        raise SettingError(f"--space {argument}: {FORM}")
    if key in NOT_TUNED:
        raise SettingError(f"--space {argument}: {NOT_TUNED[key]}")
    found = _range(argument, key, text, value_of(settings, key)) if ".." in text else _choices(argument, key)
    for value in found.choices or (found.low, found.high):
        ending = setting(key, int(value) if found.whole else value)
        try:
            load(scenario, overrides=(*overrides, ending))
        except SettingError as error:
            raise SettingError(str(error).replace(f"--set {ending}", f"--space {argument}", 1)) from None
    return found


def value_of(settings: ScenarioSettings, key: str) -> Any:
    """Return the value of SECTION.KEY; `None` where it is unset or there is no such key."""
    found: Any = settings.as_file()
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _range(argument: str, key: str, text: str, now: object) -> Parameter:
    bounds, colon, scale = text.partition(":")
    words = [word.strip() for word in bounds.split("..")]
    try:
        low, high = (float(word) for word in words)
    except ValueError:
        raise SettingError(f"--space {argument}: {FORM}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SettingError(f"--space {argument}: both bounds must be finite numbers")
    if colon and scale not in ("log", "linear"):
        raise SettingError(f"--space {argument}: unknown scale '{scale}'; valid: log, linear")
    if low >= high:
        raise SettingError(
            f"--space {argument}: the lower bound {words[0]} is not below the upper, {words[1]}"
        )
    in_digits = all(word.lstrip("+-").isdecimal() for word in words)
    whole = in_digits if now is None else isinstance(now, int) and not isinstance(now, bool)
    if whole and not in_digits:
        raise SettingError(f"--space {argument}: {key} is a whole number, and so must its bounds be")
    if now is not None and (isinstance(now, bool) or not isinstance(now, (int, float))):
        raise SettingError(f"--space {argument}: {key} is no number; list its values: {key}=V1,V2,…")
    if scale == "log" and low <= 0:
        raise SettingError(f"--space {argument}: a logarithm needs a lower bound above 0")
    log = scale == "log" or (not colon and not whole and low > 0 and high >= LOG_FROM * low)
    return Parameter(key=key, low=low, high=high, log=log, whole=whole)


def _choices(argument: str, key: str) -> Parameter:
    try:
        _, words = parse_axis(argument)
    except SettingError:
        raise SettingError(f"--space {argument}: {FORM}, with different values") from None
    if len(words) < 2:
        raise SettingError(f"--space {argument}: one value is no choice; {FORM}")
    return Parameter(key=key, choices=tuple(words))


def _parsed(key: str, word: str) -> Any:
    found: Any = parse_override(f"{key}={word}").tables
    for part in key.split("."):
        found = found[part]
    return found
