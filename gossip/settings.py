"""The base of every settings class, and the registries that give a seam's choices their names.

A new algorithm is one class at one seam, registered under a name with the settings it takes; nothing else
in the project asks for that name.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from gossip import plugins
from gossip.errors import SettingError, nearest

T = TypeVar("T")

TOML_WORDS = {"tuple_type": "a list", "model_type": "a table", "dict_type": "a table"}
"""What pydantic calls otherwise."""


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
HASH = r"^[0-9a-f]{32}$"
PATTERNS = {
    NAME: "1 to 100 of the letters A to Z and a to z, digits, '.', '_' and '-', and begin with a letter or a digit",
    HASH: "32 of the digits 0 to 9 and a to f",
}
"""What must hold of a text, for people: it must be …"""


class Settings(BaseModel):
    """Frozen, strict about unknown keys; a field's description gives unit, meaning and trade-off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
    implied: ClassVar[Mapping[str, Any]] = {}
    """Settings that came later, and the values that are what was done before: as long as a setting has its value, peers
    agree with those that do not know it."""

    def compared(self) -> dict[str, Any]:
        """Return what peers must have in common."""
        unsaid = {key for key, value in self.implied.items() if getattr(self, key) == value}
        return self.model_dump(mode="json", exclude_none=True, exclude=unsaid)


def first_complaint(
    error: ValidationError, model: type[BaseModel], *, elsewhere: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], str]:
    """Return the path and one sentence for the first thing that is wrong with a settings table.

    The sentence names the key, the value and what would be valid; pydantic's own report has several lines. `elsewhere`
    as `nearest` takes it.
    """
    details = error.errors(include_url=False)
    detail = details[0]
    path = tuple(str(part) for part in detail["loc"])
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        return (
            path,
            f"unknown key '{key}'; {nearest(path[-1], _keys_at(model, path[:-1]), elsewhere=elsewhere)}",
        )
    message = detail["msg"].removeprefix("Value error, ")
    if not path:
        return path, message
    value = detail["input"]
    if detail["type"] == "missing":
        return path, f"'{key}' is missing"
    message = _demanded(detail["type"], message, detail.get("ctx", {}))
    branches = [each for each in details if each["loc"][:-1] == detail["loc"][:-1] and len(each["loc"]) > 1]
    if detail["type"] == "literal_error" and "[" in path[-1]:
        # A value of one sort or another: pydantic has a complaint of each, under a name of its own.
        sorts = [_demanded(each["type"], each["msg"], each.get("ctx", {})) for each in branches]
        path, message = path[:-1], "must be " + " or ".join(each.removeprefix("must be ") for each in sorts)
        key = ".".join(path)
    shown = "" if isinstance(value, Mapping) else f" = {repr(value)[:80]}"
    return path, f"{key}{shown}: {message}"


def _demanded(type: str, message: str, context: Mapping[str, Any]) -> str:
    """Return what must be, in words of ours where pydantic's are none for people: ``must be a list``."""
    if type == "value_error":  # a sentence of ours
        return message
    if type in TOML_WORDS:
        return f"must be {TOML_WORDS[type]}"
    if type == "string_pattern_mismatch":
        return f"must be {PATTERNS.get(context['pattern'], 'of the form ' + context['pattern'])}"
    _, should, what = message.partition(" should ")
    if should:  # Input should be …, Tuple should have at least 1 item after validation, not 0
        return f"must {what.partition(' after validation')[0]}"
    return message


def _keys_at(model: type[BaseModel], path: Sequence[str]) -> Collection[str]:
    """Return the keys that are valid in the table at `path`, of which places in lists are a part."""
    for part in path:
        if part in model.model_fields:
            model = _table_of(model.model_fields[part].annotation) or model
    return model.model_fields


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the settings that a field has: itself, or one of, or each of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_of, get_args(annotation))), None)


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
    kind: str

    def load(self) -> Any:
        """Import and return the class (or function) that this choice configures."""
        module, _, name = self.implementation.partition(":")
        return getattr(importlib.import_module(module), name)


class Seam:
    """All choices of one seam by kind; a pydantic field uses `validate` as its before-validator.

    Three sources answer for a kind, in this order: ours; the entry point of that name of an installed package; and
    ``python:FILE:NAME``, a user's own. Of the last two the class brings its settings as `Settings`, a subclass of
    `gossip.settings.Settings`, where it takes any.

    Args:
        name: for sentences.
        choices: ours.
        group: of the entry points.
        base: "module:Class" of what others bring must be a subclass; none: any callable.
        settings: what the settings of all choices have in common.
    """

    def __init__(
        self,
        name: str,
        *choices: type[Choice],
        group: str = "",
        base: str = "",
        settings: type[Choice] | None = None,
    ) -> None:
        self.name = name
        self.group = group
        self._base = base
        self._settings = settings or Choice
        self._registry: Registry[type[Choice]] = Registry(name)
        self._others: dict[Any, type[Choice]] = {}
        for choice in choices:
            self.add(choice)

    def add(self, choice: type[Choice]) -> type[Choice]:
        """Register a settings class under the default of its `kind`; usable as a decorator."""
        self._registry.add(str(choice.model_fields["kind"].default), choice)
        return choice

    def kinds(self) -> list[str]:
        """Return the registered names, and those of installed packages."""
        return sorted({*self._registry, *(plugins.installed(self.group) if self.group else ())})

    def ours(self) -> list[type[Choice]]:
        """Return the settings classes of our own choices."""
        return [self._registry.get(kind) for kind in sorted(self._registry)]

    def settings_for(self, kind: str) -> type[Choice]:
        """Return the settings class of `kind`, or raise `SettingError` naming the nearest valid one."""
        if kind in self._registry:
            return self._registry.get(kind)
        if plugins.is_user_code(kind):
            return self._of_others(kind, plugins.thing(kind, key=f"[{self.name}] kind"))
        if self.group and kind in plugins.installed(self.group):
            return self._of_others(kind, plugins.load_installed(self.group, kind, seam=self.name))
        raise SettingError(f"unknown {self.name} '{kind}'; {nearest(kind, self.kinds())}")

    def __contains__(self, kind: object) -> bool:
        return kind in self._registry or (bool(self.group) and kind in plugins.installed(self.group))

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
            written = f", and has {', '.join(map(repr, value))}" if value else ""
            raise ValueError(f"needs kind = one of: {', '.join(self.kinds())}{written}")
        name = kind if plugins.is_user_code(kind) else self.choice_of(kind)
        try:
            choice = self.settings_for(name)
        except SettingError as error:
            sentence = str(error).removeprefix(f"[{self.name}] ")  # who asks says in which section it is
            if sentence.startswith(f"unknown {self.name} "):
                sentence = f"unknown kind '{kind}'; {nearest(name, self.kinds())}"
            raise ValueError(sentence) from None
        try:
            return choice.model_validate(value)
        except ValidationError as error:
            _, sentence = first_complaint(error, choice)
            raise ValueError(sentence) from None

    def _of_others(self, kind: str, found: Any) -> type[Choice]:
        """Return the settings class of what is not ours, made once."""
        if found not in self._others:
            if self._base:
                module, _, name = self._base.partition(":")
                base = getattr(importlib.import_module(module), name)
                if not (isinstance(found, type) and issubclass(found, base)):
                    raise SettingError(
                        f"[{self.name}] kind = '{kind}' is no {name} (a subclass of {module}.{name})"
                    )
            own = getattr(found, "Settings", None)
            if own is not None and not (isinstance(own, type) and issubclass(own, Settings)):
                raise SettingError(
                    f"[{self.name}] kind = '{kind}': its Settings is no subclass of gossip.Settings"
                )
            if own is not None and issubclass(own, self._settings):
                bases: tuple[type, ...] = (own,)
            else:
                bases = (self._settings,) if own is None else (own, self._settings)
            body = {
                "__module__": getattr(found, "__module__", __name__),
                "__doc__": getattr(found, "__doc__", None),
                "__annotations__": {"kind": "str"},
                "kind": kind,
                "implementation": kind,
                "load": lambda self: found,
            }
            self._others[found] = type(bases[0])(
                f"{getattr(found, '__name__', 'Users')}Settings", bases, body
            )
        return self._others[found]
