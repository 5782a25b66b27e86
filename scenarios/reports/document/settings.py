"""A run's settings: first those that differ from what its algorithm would have had by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gossip.config.layers import Layer
from gossip.config.loading import resolve
from gossip.errors import UserError
from scenarios.scenario import ScenarioSettings

SAID_ABOVE = ("scenario.name", "scenario.description", "scenario.seed", "scenario.algorithm")


def told(text: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return {changed: [{key, value, default}], text}; `changed` is [] where the defaults cannot be known."""
    return {
        "changed": changed(tables),
        "text": text,
        "description": tables.get("scenario", {}).get("description", ""),
    }


def changed(tables: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the settings that differ from those of the algorithm, with what they would have been."""
    settings = _resolved(tables)
    plain = _resolved({"scenario": {"algorithm": tables.get("scenario", {}).get("algorithm")}})
    if settings is None or plain is None:
        return []
    usual = _of_classes(settings) | flattened(plain.as_file())
    found = []
    for key, value in flattened(tables).items():
        default = usual.get(key)
        if key in SAID_ABOVE or value == default or (default is None and value in ([], "")):
            continue
        found.append({"key": key, "value": written(value), "default": written(default)})
    return found


def flattened(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return SECTION.KEY -> value."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat


def written(value: object, *, within: bool = False) -> str:
    """Return a value much as one would write it in TOML, a text without its quotes; a dash for none."""
    match value:
        case None:
            return "–"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return f"[{', '.join(written(each, within=True) for each in value)}]"
        case Mapping():
            said = (
                f"{key} = {written(each, within=True)}" for key, each in value.items() if each is not None
            )
            return "{" + ", ".join(said) + "}"
        case str() if within:
            return f'"{value}"'
        case _:
            return str(value)


def _resolved(tables: Mapping[str, Any]) -> ScenarioSettings | None:
    """Return the settings of a file that says so; None where that cannot be read here (a user's file has moved)."""
    said = dict(tables.get("scenario", {}))
    hoisted = {key: said[key] for key in ("algorithm", "seed") if said.get(key) is not None}
    scenario = {key: value for key, value in said.items() if value is not None}
    try:
        return resolve(
            [Layer({**tables, "scenario": scenario, **hoisted}, "scenario.toml")], ScenarioSettings
        )
    except (UserError, OSError):
        return None


def _of_classes(settings: BaseModel, before: str = "") -> dict[str, Any]:
    """Return SECTION.KEY -> the default in the class that the settings are of, where it has one."""
    found: dict[str, Any] = {}
    for name, about in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= _of_classes(value, f"{before}{name}.")
        elif not about.is_required():
            found[before + name] = about.get_default(call_default_factory=True)
    return found
