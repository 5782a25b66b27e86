"""What mkdocs asks of us: pages that lie beside their code, their links, and settings written from the code.

A page of docs/ may hold ``<!-- settings: MODULE:CLASS -->`` for a table of a settings class, ``<!-- preset: NAME -->``
for what an algorithm's name stands for, ``<!-- kinds: MODULE:SEAM -->`` for all that a `kind` may be, and ``<!-- every:
MODULE:SEAM -->`` for these with their settings. Nothing of these is written by hand.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from told_settings import filled  # noqa: E402

INCLUDED = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "readme.md",
    "scenarios/README.md": "rooms/scenarios.md",
    "topologies/README.md": "rooms/topologies.md",
    "examples/README.md": "examples/index.md",
    "gossip/learning/adapters.md": "rooms/adapters.md",
    "tools/fuzz/README.md": "rooms/fuzz.md",
    "tools/torture/README.md": "rooms/torture.md",
    **{
        f"gossip/{room}/README.md": f"rooms/{room}.md"
        for room in (
            "learning",
            "protocols",
            "merging",
            "wire",
            "net",
            "node",
            "page",
            "agreeing",
            "inference",
            "privacy",
        )
    },
    **{
        f"examples/{name}/README.md": f"examples/{name}.md"
        for name in (
            "csv",
            "images",
            "regression",
            "timeseries",
            "text",
            "backbone",
            "finetune-transformer",
            "extending",
        )
    },
}
"""File of the repository -> page of the site. A page of docs/ is itself."""

REPOSITORY = os.environ.get("GOSSIP_REPOSITORY", "")
"""Where files that are no pages are shown, e.g. https://…/blob/main; without, their links become plain text."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(\s*)```.*?^\1```\s*?$", re.MULTILINE | re.DOTALL)


def slug(heading: str, separator: str = "-") -> str:
    """Return a heading's anchor, as the pages that show the repository make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", separator)


def on_config(config: Any) -> Any:
    """Have anchors be those that the files' own links have, and settings those of this tree."""
    sys.path.insert(0, str(ROOT))
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie beside their code."""
    from mkdocs.structure.files import File

    for source, page in INCLUDED.items():
        path = ROOT / source
        if path.exists():
            files.append(File.generated(config, page, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return a page with links of the site, blocks with titles, and what the code says."""
    uri = page.file.src_uri
    source = next((file for file, name in INCLUDED.items() if name == uri), f"docs/{uri}")
    return rewritten(markdown, source=source, uri=uri)


def rewritten(markdown: str, *, source: str, uri: str) -> str:
    """Return the text of `source` as the page `uri`."""
    markdown = re.sub(r"^```(\w+) ([\w./-]+)$", r'```\1 title="\2"', markdown, flags=re.MULTILINE)
    return outside_code(filled(markdown), lambda text: _LINK.sub(lambda link: _led(link, source, uri), text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return the text with everything changed that is no block of code."""
    parts, place = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [change(markdown[place : fence.start()]), fence[0]]
        place = fence.end()
    return "".join(parts) + change(markdown[place:])


def _led(link: re.Match[str], source: str, uri: str) -> str:
    """Return a link that leads where the file's own does."""
    picture, text, target = link.groups()
    if re.match(r"[a-z]+:", target) or target.startswith("#"):
        return link[0]
    file, hash_, anchor = target.partition("#")
    found = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
    page = INCLUDED.get(found, found.removeprefix("docs/") if found.startswith("docs/") else None)
    if page is not None:
        led = posixpath.relpath(page, posixpath.dirname(uri) or ".")
        return f"{picture}[{text}]({led}{hash_}{anchor})"
    if not (ROOT / found).exists():
        raise FileNotFoundError(f"{source} links to {target}, which is not there")
    return f"{picture}[{text}]({REPOSITORY}/{found}{hash_}{anchor})" if REPOSITORY else text


def on_post_build(config: Any) -> None:
    """Refuse a site that asks anybody else for anything."""
    asked = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|<link[^>]+rel=["']?(?:stylesheet|preconnect|icon)"""
        r"""["']?[^>]+href=["']?(?:https?:)?//|@import|url\(["']?https?:"""
    )
    for path in sorted(Path(config["site_dir"]).rglob("*")):
        if path.suffix in (".html", ".css") and (found := asked.search(path.read_text(encoding="utf-8"))):
            from mkdocs.exceptions import PluginError

            raise PluginError(f"{path}: asks for something outside: {found[0]}")
