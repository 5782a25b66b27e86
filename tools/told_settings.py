"""Tables of settings for the site, written from the classes that check them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

NOTHING = "It has no settings."

_ASKED = re.compile(r"^<!-- (settings|preset|kinds|every): (\S+) -->$", re.MULTILINE)


def filled(markdown: str) -> str:
    """Return a page with each comment that asks for something followed by it."""
    return _ASKED.sub(lambda asked: _ANSWERS[asked[1]](asked[2]), markdown)


def asked_in(markdown: str) -> list[tuple[str, str]]:
    """Return what a page asks for."""
    return _ASKED.findall(markdown)


def settings(name: str) -> str:
    """Return a table of the fields of MODULE:CLASS, or of MODULE:CLASS(KEY,KEY): key, default, bounds, meaning.

    Raises:
        LookupError: it has no such key.
    """
    name, _, wanted = name.rstrip(")").partition("(")
    asked = _named(name)
    if wanted:
        return _table({key: asked.model_fields[key] for key in wanted.split(",")})
    return _table(_own(asked))


def _own(asked: Any) -> dict[str, Any]:
    """Return the fields of a class, without the name by which a choice is found."""
    from gossip.settings import Choice

    fields = dict(asked.model_fields)
    if issubclass(asked, Choice):
        del fields["kind"]
    return fields


def _table(fields: Mapping[str, Any]) -> str:
    lines = ["| key | default | valid | meaning |", "|---|---|---|---|"]
    for key, field in fields.items():
        default = (
            "needed" if field.is_required() else f"`{_value(field.get_default(call_default_factory=True))}`"
        )
        valid = ", ".join(_bounds(field)) or _type(field.annotation)
        lines.append(f"| `{key}` | {default} | {valid} | {_cell(field.description or '')} |")
    if len(lines) == 2:
        return NOTHING
    return "\n".join(lines)


def preset(name: str) -> str:
    """Return the sections that `algorithm = NAME` fills, as a task file would say them."""
    from tomli_w import dumps

    from gossip.config.presets import PRESETS

    written = dumps({section: dict(keys) for section, keys in PRESETS[name].items()})
    return f'```toml\n# what algorithm = "{name}" stands for\n{written}```'


def kinds(name: str) -> str:
    """Return a table of all kinds of a seam, with what each says of itself."""
    seam = _named(name)
    lines = ["| `kind` | |", "|---|---|"]
    for choice in seam.ours():
        kind, told = choice.model_fields["kind"].default, " ".join((choice.__doc__ or "").split())
        lines.append(f"| `{kind}` | {_cell(told)} |")
    return "\n".join(lines)


def every(name: str) -> str:
    """Return all kinds of a seam, as `kinds`, and below them the settings of each that has some."""
    tables = [kinds(name)]
    for choice in _named(name).ours():
        told = _table(_own(choice))
        if told != NOTHING:
            tables.append(f'With `kind = "{choice.model_fields["kind"].default}"`:\n\n{told}')
    return "\n\n".join(tables)


def _named(name: str) -> Any:
    module, _, thing = name.partition(":")
    return getattr(importlib.import_module(module), thing)


def _value(value: Any) -> str:
    told = value if isinstance(value, str) else getattr(value, "kind", value)
    return (
        {True: "true", False: "false", None: "none"}.get(told, told)
        if isinstance(told, bool | None)
        else str(told)
    )


def _bounds(field: Any) -> Iterator[str]:
    """Yield what a number must be."""
    for bound in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if getattr(bound, name, None) is not None:
                value = getattr(bound, name)
                yield f"{sign} {value if isinstance(value, int) else format(value, 'g')}"


def _type(annotation: Any) -> str:
    told = (
        str(annotation)
        if "Literal" in str(annotation) or not isinstance(annotation, type)
        else annotation.__name__
    )
    told = re.sub(r"typing\.|Literal\[|\]$", "", told).replace("'", "").replace("None", "none")
    return _cell(told) if len(told) < 60 else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_ANSWERS: dict[str, Callable[[str], str]] = {
    "settings": settings,
    "preset": preset,
    "kinds": kinds,
    "every": every,
}
