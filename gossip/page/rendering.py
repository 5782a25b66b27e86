"""From a document to a page: HTML with everything inside that it shows, and a policy that lets it load nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gossip.learning.objectives.score import Score

FIRST = ("base.js", "words.js", "tables.js", "cards.js", "many.js", "start.js")
"""Scripts that need no charts: what they write is there before the library is read."""

THEN = ("charts.js", "curves.js", "maps.js", "verdicts.js", "page.js")

LIVE = "live.js"
"""The script, after all others, that takes later documents."""

ASKS = "; connect-src 'self'"

LIBRARY = ("bokeh.min.js", "bokeh-api.min.js")
"""Bokeh's own files, of those the two that our scripts use."""


FORMAT = 1
"""Of the document; scripts and document travel together."""


def nothing_yet(title: str, lead: str) -> dict[str, Any]:
    """Return the document that is shown before there is anything to show."""
    return {
        "format": FORMAT,
        "kind": "nothing yet",
        "title": title,
        "lead": lead,
        "state": "starting",
        "progress": None,
        "warnings": [],
        "machines": [],
    }


def told_score(score: Score) -> dict[str, Any]:
    """Return what the page must know to write the objective's score."""
    return {"label": score.label, "percent": score.percent, "higher_is_better": score.higher_is_better}


def page_of(shown: Mapping[str, Any]) -> str:
    """Return the page of a document, with nothing to load from elsewhere."""
    framed = frame(shown, live=False)
    return framed.before + encoded(shown) + framed.after


def encoded(shown: Mapping[str, Any]) -> str:
    """Return a document as JSON that may stand in a script block, and is one line."""
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # "</script>" within a string would end the block, "<!--" begin another.
    return text.replace("<", "\\u003c")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the document in a page, and what the page may load."""

    before: str
    after: str
    policy: str


def frame(shown: Mapping[str, Any], *, live: bool) -> Frame:
    """Return the frame of a page of the document's title; a live one takes later documents, too."""
    scripts = [joined(FIRST), library(), joined((*THEN, LIVE) if live else THEN)]
    allowed = policy(scripts, live=live)
    page = (
        _environment()
        .get_template("page.html")
        .render(
            shown=shown,
            live=live,
            style=Markup(_template("page.css")),
            scripts=[Markup(script) for script in scripts],
            policy=allowed,
        )
    )
    before, _, after = page.partition(_HERE)
    return Frame(before, after, allowed)


def policy(scripts: Sequence[str], *, live: bool = False) -> str:
    """Return the Content-Security-Policy of a page with exactly these scripts; a live one may ask its own server."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # The library writes styles of its own into its charts.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"base-uri 'none'; form-action 'none'{ASKS if live else ''}"
    )


def joined(names: Sequence[str]) -> str:
    """Return scripts of the page as one, with names of their own."""
    return "\n".join(_template(name) for name in names)


@cache
def library() -> str:
    """Return the chart library: what its Python package carries for pages without a network."""
    folder = files("bokeh") / "server" / "static" / "js"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in LIBRARY)


_HERE = "<!-- the document -->"
"""In the template, where the document comes."""


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("gossip.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _template(name: str) -> str:
    return (files("gossip.page") / "templates" / name).read_text(encoding="utf-8")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
