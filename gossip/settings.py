"""The base of every settings class, and the registries that give a seam's choices their names.

A new algorithm is one class at one seam, registered under a name with the settings it takes; nothing else
in the project asks for that name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gossip.errors import SettingError, nearest

T = TypeVar("T")

TOML_WORDS = {"tuple_type": "a list", "model_type": "a table", "dict_type": "a table"}
"""What pydantic calls otherwise."""


class Settings(BaseModel):
    """Frozen, strict about unknown keys; a field's description gives unit, meaning and trade-off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def first_complaint(error: ValidationError, model: type[BaseModel]) -> tuple[tuple[str, ...], str]:
    """Return the path and one sentence for the first thing that is wrong with a settings table.

    The sentence names the key, the value and what would be valid; pydantic's own report has several lines.
    """
    detail = error.errors(include_url=False)[0]
    path = tuple(str(part) for part in detail["loc"])
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        return path, f"unknown key '{key}'; {nearest(path[-1], model.model_fields)}"
    message = detail["msg"].removeprefix("Value error, ")
    if not path:
        return path, message
    value = detail["input"]
    if detail["type"] == "missing":
        return path, f"'{key}' is missing"
    message = TOML_WORDS.get(detail["type"], message.removeprefix("Input should be "))
    verb = "" if detail["type"] == "value_error" else "must be "
    shown = "" if isinstance(value, Mapping) else f" = {repr(value)[:80]}"
    return path, f"{key}{shown}: {verb}{message}"


class Registry(Generic[T]):
    """Names to the entries of one seam."""

    def __init__(self, seam: str) -> None:
        self.seam = seam
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name`; names are taken once."""
        if name in self._entries:
            raise ValueError(f"{self.seam} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry, or raise `SettingError` naming the nearest valid name."""
        try:
            return self._entries[name]
        except KeyError:
            raise SettingError(f"unknown {self.seam} '{name}'; {nearest(name, self._entries)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries


class Choice(Settings):
    """The settings of one choice at one seam, e.g. ``[merge] kind = "average"``.

    Settings are free of torch so that files can be checked at once; the class they configure is named by
    `implementation` ("module:Class") and imported when it is built.
    """

    implementation: ClassVar[str]
    implied: ClassVar[Mapping[str, Any]] = {}
    """Settings that came later, and the values that are what was done before: as long as a setting has its value, peers
    agree with those that do not know it."""
    kind: str

    def compared(self) -> dict[str, Any]:
        """Return what peers must have in common."""
        unsaid = {key for key, value in self.implied.items() if getattr(self, key) == value}
        return self.model_dump(mode="json", exclude_none=True, exclude=unsaid)

    def load(self) -> Any:
        """Import and return the class (or function) that this choice configures."""
        module, _, name = self.implementation.partition(":")
        return getattr(importlib.import_module(module), name)


class Seam:
    """All choices of one seam by kind; a pydantic field uses `validate` as its before-validator."""

    def __init__(self, name: str, *choices: type[Choice]) -> None:
        self.name = name
        self._registry: Registry[type[Choice]] = Registry(name)
        for choice in choices:
            self.add(choice)

    def add(self, choice: type[Choice]) -> type[Choice]:
        """Register a settings class under the default of its `kind`; usable as a decorator."""
        self._registry.add(str(choice.model_fields["kind"].default), choice)
        return choice

    def kinds(self) -> list[str]:
        """Return the registered names."""
        return sorted(self._registry)

    def settings_for(self, kind: str) -> type[Choice]:
        """Return the settings class of `kind`, or raise `SettingError` naming the nearest valid one."""
        return self._registry.get(kind)

    def __contains__(self, kind: object) -> bool:
        return kind in self._registry

    def choice_of(self, kind: str) -> str:
        """Return the name under which the choice that `kind` means would be registered."""
        return kind

    def validate(self, value: object) -> Choice:
        """Turn ``{"kind": …, …}`` into the right settings object (what pydantic calls)."""
        if isinstance(value, Choice):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a table with a 'kind', not {value!r}")
        kind = value.get("kind")
        if not isinstance(kind, str):
            raise ValueError(f"needs kind = one of: {', '.join(self.kinds())}")
        name = self.choice_of(kind)
        if name not in self._registry:
            raise ValueError(f"unknown kind '{kind}'; {nearest(name, self._registry)}")
        choice = self._registry.get(name)
        try:
            return choice.model_validate(value)
        except ValidationError as error:
            _, sentence = first_complaint(error, choice)
            raise ValueError(sentence) from None
