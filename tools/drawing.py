"""Boxes in layers with arrows between them, as SVG: each box above all that it points to.

Deterministic, and text of our own: what a plotting library writes differs from version to version.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH = 1280
MARGIN = 24
BOX = 236
GAP_X = 22
GAP_Y = 46
LINE = 14
CHANNEL = 10
"""Width of the place that an arrow takes where it passes a layer."""
SWEEPS = 12
COLOURS = {
    "gossip": ("#e8f0fb", "#3b6fb5"),
    "topologies": ("#e9f6ea", "#3d8b45"),
    "scenarios": ("#fdf1e3", "#b8762a"),
}
STATION = "#c0392b"


@dataclass(frozen=True, slots=True)
class Box:
    """One room."""

    name: str
    title: str
    sentence: str
    inner: tuple[str, ...]
    level: int
    house: str
    loose: bool


@dataclass(slots=True)
class _Slot:
    """A box, or the place where an arrow passes a layer."""

    key: str
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    above: list[_Slot] = field(default_factory=list)
    below: list[_Slot] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """Its middle, from the left."""
        return self.x + self.width / 2


def _lines(box: Box) -> list[tuple[str, str]]:
    """Return (class, text) of what stands under the title."""
    if box.loose:
        return [("inner", line) for line in textwrap.wrap(" · ".join(box.inner), 32)]
    said = [("said", line) for line in textwrap.wrap(f"{box.sentence}.", 36)]
    return said + [("inner", f"{each}/") for each in box.inner]


def _height(box: Box) -> float:
    return 30 + LINE * len(_lines(box)) + 6


def draw(boxes: Sequence[Box], arrows: Iterable[tuple[str, str]], stations: Sequence[tuple[str, str]]) -> str:
    """Return the picture.

    Args:
        boxes: what is drawn; level 0 is at the bottom.
        arrows: (from, to) names; from is above to, or beside it.
        stations: (what happens, box name), the way of a model.
    """
    slots = {box.name: _Slot(box.name, BOX, _height(box)) for box in boxes}
    levels = {box.name: box.level for box in boxes}
    rows: list[list[_Slot]] = [[] for _ in range(1 + max(levels.values()))]
    for box in boxes:
        rows[box.level].append(slots[box.name])
    paths = [_path(slots, rows, levels, start, end) for start, end in arrows]
    _order(rows)
    top = 96.0
    height = _place(rows, top)
    numbers: dict[str, list[int]] = {}
    for number, (_, name) in enumerate(stations, 1):
        numbers.setdefault(name, []).append(number)
    parts = [_head(height), *_strip(stations)]
    parts += [_arrow(path) for path in paths]
    for box in boxes:
        parts += _drawn(box, slots[box.name], numbers.get(box.name, ()))
    return "\n".join([*parts, "</svg>", ""])


def _path(
    slots: Mapping[str, _Slot], rows: list[list[_Slot]], levels: Mapping[str, int], start: str, end: str
) -> list[_Slot]:
    """Return the slots that an arrow passes, with one made in each layer between."""
    if levels[start] < levels[end]:  # of a circle: what it imports is drawn above it
        return list(reversed(_path(slots, rows, levels, end, start)))
    path = [slots[start]]
    for level in range(levels[start] - 1, levels[end], -1):
        passing = _Slot(f"{end} < {start}", CHANNEL, 0)
        rows[level].append(passing)
        path.append(passing)
    path.append(slots[end])
    for upper, lower in pairwise(path) if levels[start] > levels[end] else ():
        upper.below.append(lower)
        lower.above.append(upper)
    return path


def _order(rows: list[list[_Slot]]) -> None:
    """Put each layer in the order of the means of its neighbours' places, down and up (Sugiyama et al. 1981)."""
    place = {id(slot): (number + 0.5) / len(row) for row in rows for number, slot in enumerate(row)}
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for row in reversed(rows) if downwards else rows:
            wish = {}
            for slot in row:
                near = slot.above if downwards else slot.below
                wish[id(slot)] = (
                    sum(place[id(each)] for each in near) / len(near) if near else place[id(slot)]
                )
            row.sort(key=lambda slot: (round(wish[id(slot)], 9), slot.key))
            for number, slot in enumerate(row):
                place[id(slot)] = (number + 0.5) / len(row)


def _place(rows: list[list[_Slot]], top: float) -> float:
    """Give every slot its place; return the picture's height."""
    y = top
    for row in reversed(rows):
        free = WIDTH - 2 * MARGIN - sum(slot.width for slot in row)
        gap = min(GAP_X * 2.0, free / max(1, len(row) - 1))
        x = (WIDTH - sum(slot.width for slot in row) - gap * (len(row) - 1)) / 2
        height = max(slot.height for slot in row)
        for slot in row:
            slot.x, slot.y = x, y
            if slot.width == CHANNEL:
                slot.height = height
            x += slot.width + gap
        y += height + GAP_Y
    return y


def _head(height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="Helvetica, Arial, sans-serif">\n'
        "<style>.title{font-size:13px;font-weight:bold}.said{font-size:11px;fill:#333}"
        ".inner{font-size:10.5px;fill:#555;font-family:monospace}.arrow{fill:none;stroke:#8a93a0;stroke-width:1.2}"
        ".way{font-size:12px;fill:#c0392b}.number{font-size:11px;font-weight:bold;fill:#fff;text-anchor:middle}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#8a93a0"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>\n'
        f'<text x="{MARGIN}" y="26" class="said">A box is a package, or files beside packages; an arrow points to what '
        "is imported, and is left out where a way over other boxes says the same. "
        "Red: the way of a model.</text>"
    )


def _strip(stations: Sequence[tuple[str, str]]) -> Iterable[str]:
    x = float(MARGIN)
    for number, (what, _) in enumerate(stations, 1):
        yield _badge(x + 9, 54, number)
        yield f'<text x="{x + 22:.0f}" y="58" class="way">{escape(what)}</text>'
        x += 34 + 7.2 * len(what)
        if number < len(stations):
            yield f'<text x="{x - 4:.0f}" y="58" class="way">→</text>'
            x += 18


def _badge(x: float, y: float, number: int) -> str:
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="9" fill="{STATION}"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}" class="number">{number}</text>'
    )


def _arrow(path: Sequence[_Slot]) -> str:
    start, end = path[0], path[-1]
    if len(path) == 2 and start.y == end.y:
        return _beside(start, end)
    mark = "end"
    if start.y > end.y:
        path, mark = list(reversed(path)), "start"
        start, end = path[0], path[-1]
    x, y = _port(start, path[1], start.below), start.y + start.height
    line = [f"M{x:.0f} {y:.0f}"]
    for slot in path[1:]:
        to = slot.middle if slot.width == CHANNEL else _port(slot, path[-2], slot.above)
        bend = min(GAP_Y, slot.y - y) / 2 + 4
        line.append(f"C{x:.0f} {slot.y - bend:.0f} {to:.0f} {slot.y - bend:.0f} {to:.0f} {slot.y - 1:.0f}")
        x, y = to, slot.y + slot.height
        if slot.width == CHANNEL:
            line.append(f"L{x:.0f} {y:.0f}")
    return f'<path class="arrow" marker-{mark}="url(#tip)" d="{" ".join(line)}"/>'


def _beside(start: _Slot, end: _Slot) -> str:
    """Return an arrow that goes under what stands between two boxes of a layer; two of a circle have two."""
    to_the_right = start.x < end.x
    inset = 26 if to_the_right else 14
    x, to = (
        (start.x + start.width - inset, end.x + inset)
        if to_the_right
        else (start.x + inset, end.x + end.width - inset)
    )
    y, bottom = start.y + start.height, end.y + end.height
    dip = max(y, bottom) + (GAP_Y * 0.55 if to_the_right else GAP_Y * 0.75)
    return (
        f'<path class="arrow" marker-end="url(#tip)" d="M{x:.0f} {y:.0f} C{x:.0f} {dip:.0f} {x:.0f} {dip:.0f} '
        f'{(x + to) / 2:.0f} {dip:.0f} S{to:.0f} {dip:.0f} {to:.0f} {bottom + 1:.0f}"/>'
    )


def _port(slot: _Slot, other: _Slot, others: Sequence[_Slot]) -> float:
    """Return where on a box's edge an arrow begins or ends: side by side, in the order of where they lead."""
    order = sorted(others, key=lambda each: (each.middle, each.key))
    at = next(number for number, each in enumerate(order) if each is other)
    return slot.x + slot.width * (at + 1) / (len(order) + 1)


def _drawn(box: Box, slot: _Slot, numbers: Sequence[int]) -> Iterable[str]:
    fill, line = COLOURS[box.house]
    dash = ' stroke-dasharray="4 3"' if box.loose else ""
    yield (
        f'<rect x="{slot.x:.0f}" y="{slot.y:.0f}" width="{slot.width:.0f}" height="{slot.height:.0f}" rx="6" '
        f'fill="{fill}" stroke="{line}"{dash}/>'
    )
    yield f'<text x="{slot.x + 10:.0f}" y="{slot.y + 20:.0f}" class="title">{escape(box.title)}</text>'
    for number, (style, text) in enumerate(_lines(box)):
        y = slot.y + 36 + LINE * number
        yield f'<text x="{slot.x + 10:.0f}" y="{y:.0f}" class="{style}">{escape(text)}</text>'
    for turn, number in enumerate(reversed(numbers)):
        yield _badge(slot.x + slot.width - 14 - 21 * turn, slot.y + 15, number)
