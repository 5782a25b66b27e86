"""From files and command lines to settings; every mistake becomes one sentence that says where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gossip.config import agreed
from gossip.config.layers import (
    UNSET,
    Dropped,
    Layer,
    at_home,
    merge_layers,
    origin,
    parse_override,
    read_file,
)
from gossip.config.presets import DEFAULT_ALGORITHM, preset
from gossip.config.task import TaskSettings
from gossip.errors import SettingError, nearest
from gossip.learning.settings import DIGITS
from gossip.protocols.settings import PROTOCOLS
from gossip.settings import Settings, first_complaint

S = TypeVar("S", bound=TaskSettings)


def load_task(
    path: Path | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    agreeing: bool = False,
) -> TaskSettings:
    """Load the settings of a peer.

    Args:
        path: a task file, or None for the defaults.
        arguments: tables from named command-line options; over the file, under `overrides`.
        overrides: ``SECTION.KEY=VALUE`` strings; the last word.
        agreeing: the file of agreed statistics is still to be made: it is not read.

    Raises:
        SettingError: with one sentence naming file, line, key, value and what would be valid.
    """
    layers = [] if path is None else [read_file(path)]
    layers.append(Layer(arguments or {}, "command line"))
    layers.extend(parse_override(argument) for argument in overrides)
    folder = Path.cwd() if path is None else path.resolve().parent
    layers = agreed.without_file(layers) if agreeing else agreed.with_file(layers, folder)
    return resolve([*_own_data(layers), *layers], TaskSettings)


def _own_data(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield that nothing is divided, where this machine's own file or function gives the samples.

    A layer under all others: who does want to divide says so. All have the embedded digits, which are divided.
    """
    source = merge_layers(layers).get("data", {}).get("source", DIGITS)
    if source != DIGITS:
        yield Layer({"data": {"partition": {"kind": "own"}}}, "a machine's own data")


def resolve(layers: Sequence[Layer], model: type[S]) -> S:
    """Put the algorithm's preset under the layers and validate the whole, section by section."""
    if _is_ours(merge_layers(layers).get("protocol")):
        layers = [at_home(layer) for layer in layers]
    tables = merge_layers(layers)
    _refuse_unknown_sections(tables, layers, model)
    algorithm = tables.get("algorithm", DEFAULT_ALGORITHM)
    try:
        sections = preset(algorithm if isinstance(algorithm, str) else repr(algorithm))
    except SettingError as error:
        raise SettingError(f"{origin(layers, ('algorithm',))}: {error}") from None
    tables = merge_layers([Layer(sections, f"algorithm {algorithm}"), *layers])
    tables["algorithm"] = algorithm
    values = {name: _section(name, value, layers, model) for name, value in tables.items()}
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        at, sentence = first_complaint(error, model)
        section, colon, rest = sentence.partition(": ")
        if colon and section in tables:  # a seam's section, whose own settings class complained
            sentence = f"[{section}] {rest}"
        raise SettingError(f"{origin(layers, at)}: {sentence}") from None
    dropped: list[Dropped] = []
    written = merge_layers(layers, dropped)
    for layer in layers:
        for path in _unset_in(layer.tables):
            _refuse_unknown_key(settings, path, layer.where(path))
    settings.written_at({name: origin(layers, (name,)) for name in written}, notes=map(str, dropped))
    return settings


def _is_ours(protocol: object) -> bool:
    """Return whether `[protocol]` is one of ours: a user's own may have settings of the same names."""
    kind = protocol.get("kind") if isinstance(protocol, Mapping) else None
    return kind is None or kind in [choice.model_fields["kind"].default for choice in PROTOCOLS.ours()]


def _unset_in(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        if value is UNSET:
            yield (*path, key)
        elif isinstance(value, Mapping):
            yield from _unset_in(value, (*path, key))


def _refuse_unknown_key(settings: Settings, path: tuple[str, ...], where: str) -> None:
    """A key that is unset is in no table any more; a mistyped one must not pass for that."""
    found: object = settings
    for depth, key in enumerate(path):
        if not isinstance(found, BaseModel):
            return
        if key not in type(found).model_fields:
            raise SettingError(
                f"{where}: unknown key '{'.'.join(path[: depth + 1])}'; "
                f"{nearest(key, type(found).model_fields)}"
            )
        found = getattr(found, key)


def _refuse_unknown_sections(tables: Mapping[str, Any], layers: Sequence[Layer], model: type[S]) -> None:
    for name in tables:
        if name not in model.model_fields:
            raise SettingError(
                f"{origin(layers, (name,))}: unknown section '{name}'; "
                f"{nearest(name, model.model_fields, elsewhere=_homes(model))}"
            )


def _homes(model: type[BaseModel]) -> Mapping[str, str]:
    """Return where each key has its place: ``'rounds' of [stop]``. What hangs on a `kind` is not among them."""
    homes: dict[str, str] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            homes.setdefault(name, f"'{name}', above all sections")
        elif not field.metadata:
            for key in kind.model_fields:
                homes.setdefault(key, f"'{key}' of [{name}]")
    return homes


def _section(name: str, value: Any, layers: Sequence[Layer], model: type[S]) -> Any:
    kind = model.model_fields[name].annotation
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return value
    if not isinstance(value, Mapping):
        raise SettingError(f"{origin(layers, (name,))}: '{name}' must be a section: [{name}]")
    try:
        # A seam's field is annotated with the base of all choices; the whole model's validator finds the class.
        return value if model.model_fields[name].metadata else kind.model_validate(value)
    except ValidationError as error:
        at, sentence = first_complaint(error, kind, elsewhere=_homes(model))
        raise SettingError(f"{origin(layers, (name, *at))}: [{name}] {sentence}") from None
