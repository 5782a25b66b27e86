"""Draws the house from its code: writes docs/architecture.svg, and the rooms into docs/architecture.md.

A room is a package; what it says of itself is the first sentence of its docstring, and who imports whom is read from
import statements. Nothing of it stands in a list here. The way of a model is the list of that name on the page. With
``--check`` nothing is written; the exit code is 1 where something would be. The drawing itself: `tools/drawing.py`.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import networkx as nx

sys.path.insert(0, str(Path(__file__).parent))
import drawing

ROOT = Path(__file__).resolve().parents[1]
HOUSES = ("gossip", "topologies", "scenarios")
PAGE = "docs/architecture.md"
PICTURE = "docs/architecture.svg"
BEGIN = "<!-- rooms: written by tools/architecture.py -->"
END = "<!-- end of rooms -->"
STATION = re.compile(r"^\d+\. \*\*(?P<what>[^*]+)\*\* `(?P<path>[^`]+)`", re.MULTILINE)


@dataclass(slots=True)
class Room:
    """A package below one of the houses, a house without rooms, or files that lie beside the rooms of theirs."""

    path: str
    sentence: str
    inner: dict[str, str] = field(default_factory=dict)
    """Packages within it, or the files it is made of: name -> first sentence."""
    loose: bool = False
    """Files beside the rooms."""


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def first_sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    text = " ".join((ast.get_docstring(_parsed(path)) or "").split())
    return re.split(r"\.(?: |$)", text, maxsplit=1)[0]


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full names that a module imports when it runs, inside functions too; not those for the type checker."""
    waiting: list[ast.AST] = [_parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            for block in ("body", "orelse", "finalbody", "handlers", "cases"):
                waiting.extend(each for each in getattr(node, block, ()))


class House:
    """What the files say: rooms, and who imports whom."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        modules = {
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
            for house in HOUSES
            for path in sorted((root / house).rglob("*.py"))
        }
        self.packages = sorted(name for name, path in modules.items() if path.name == "__init__.py")
        self._home = {name: self._home_of(name) for name in modules}
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(sorted(home for name, home in self._home.items() if not self._is_front(name)))
        for name, path in modules.items():
            if self._is_front(name):
                continue
            for imported in imports_of(path):
                # `from package import thing` may name a module or something in the package's front.
                found = imported if imported in modules else imported.rpartition(".")[0]
                if found in modules and not self._is_front(found) and self._home[found] != self._home[name]:
                    graph.add_edge(self._home[name], self._home[found])
        self._levels(graph)
        self._gather(graph, modules)

    def _is_front(self, name: str) -> bool:
        return name in HOUSES and any(each.startswith(f"{name}.") for each in self.packages)

    def _home_of(self, name: str) -> str:
        """Return the room of a module: its package of depth two, the house, or itself where it lies beside rooms."""
        room = ".".join(name.split(".")[:2])
        house = name.split(".")[0]
        return room if room in self.packages or self._is_front(house) else house

    def _levels(self, graph: nx.DiGraph[str]) -> None:
        """Put every package above all that it needs, those that need each other side by side, and files between."""
        needs = {name: nx.descendants(graph, name) for name in graph}
        packages = [name for name in graph if name in self.packages]
        between: nx.DiGraph[str] = nx.DiGraph()
        between.add_nodes_from(packages)
        between.add_edges_from((a, b) for a in packages for b in packages if b in needs[a])
        circles = nx.condensation(between)
        height: dict[str, int] = {}
        for circle in reversed(list(nx.topological_sort(circles))):
            members = circles.nodes[circle]["members"]
            below = max((height[each] for a in members for each in needs[a] if each in height), default=-2)
            height |= dict.fromkeys(members, below + 2)
        for name in graph:
            if name not in height:
                height[name] = 1 + max((height[each] for each in needs[name] if each in packages), default=-2)
        used = sorted(set(height.values()))
        self.level = {name: used.index(each) for name, each in height.items()}

    def _gather(self, graph: nx.DiGraph[str], modules: dict[str, Path]) -> None:
        """Make rooms, with all loose files of a house and level in one."""
        self.rooms: dict[str, Room] = {}
        place: dict[str, str] = {}
        for name in sorted(graph):
            house = name.split(".")[0]
            if name in self.packages:
                path = name.replace(".", "/")
                inner = {
                    each[len(name) + 1 :].replace(".", "/"): first_sentence(modules[each])
                    for each in self.packages
                    if each.startswith(f"{name}.")
                }
                place[name] = path
                self.rooms[path] = Room(path, first_sentence(modules[name]), inner)
            else:
                place[name] = f"{house}/#{self.level[name]}"
                room = self.rooms.setdefault(place[name], Room(f"{house}/", "", loose=True))
                room.inner[f"{name.split('.')[1]}.py"] = first_sentence(modules[name])
        self.packages_of = {
            name.replace(".", "/") + ("" if name in self.packages else ".py"): [
                each.replace(".", "/") for each in sorted(graph.successors(name)) if each in self.packages
            ]
            for name in graph
        }
        """Room or file beside rooms -> the rooms that it imports directly."""
        self.level = {place[name]: level for name, level in self.level.items()}
        self.imports: nx.DiGraph[str] = nx.DiGraph()
        self.imports.add_nodes_from(sorted(self.rooms))
        self.imports.add_edges_from(
            sorted({(place[a], place[b]) for a, b in graph.edges if place[a] != place[b]})
        )
        self.houses = {name: first_sentence(modules[name]) for name in HOUSES}

    def room_of(self, path: str) -> str:
        """Return the room in which a file or folder lies."""
        name = path.removesuffix(".py").strip("/").replace("/", ".")
        parts = name.split(".")
        for room, each in self.rooms.items():
            if (
                each.loose
                and each.path == f"{parts[0]}/"
                and f"{parts[-1]}.py" in each.inner
                and len(parts) == 2
            ):
                return room
            if not each.loose and (f"{name}.").startswith(f"{room.replace('/', '.')}."):
                return room
        raise SystemExit(f"{PAGE}: '{path}' lies in no room")

    def arrows(self) -> list[tuple[str, str]]:
        """Return the imports that no way over other rooms implies."""
        circles = nx.condensation(self.imports)
        kept = set(nx.transitive_reduction(circles).edges)
        at = circles.graph["mapping"]
        return sorted((a, b) for a, b in self.imports.edges if at[a] == at[b] or (at[a], at[b]) in kept)


def _listed(rooms: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in rooms)


def table(house: House) -> str:
    """Return the rooms, house by house, with what each is for and what it imports."""
    lines = []
    for top in HOUSES:
        lines += [
            f"**{top}**: {house.houses[top]}.",
            "",
            "| room | what it is for | imports |",
            "|---|---|---|",
        ]
        mine = [name for name in house.rooms if name.split("/")[0] == top]
        for name in sorted(mine, key=lambda each: (house.rooms[each].loose and 1 + house.level[each], each)):
            room = house.rooms[name]
            if not room.loose:
                lines.append(
                    f"| `{room.path}` | {room.sentence}. | {_listed(house.packages_of[room.path])} |"
                )
            for each, said in sorted(room.inner.items()):
                path = f"{room.path.rstrip('/')}/{each}"
                lines.append(f"| `{path}` | {said}. | {_listed(house.packages_of.get(path, ()))} |")
        lines.append("")
    return "\n".join(lines)


def written(root: Path = ROOT) -> dict[str, str]:
    """Return what page and picture must say: path -> content."""
    house = House(root)
    page = (root / PAGE).read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE}: the lines '{BEGIN}' and '{END}' are missing")
    stations = [(found["what"], found["path"]) for found in STATION.finditer(page)]
    for _, path in stations:
        if not (root / path).exists():
            raise SystemExit(f"{PAGE}: the way of a model names '{path}', which is not there")
    picture = drawing.draw(
        [
            drawing.Box(
                name,
                room.path,
                room.sentence,
                tuple(sorted(room.inner)),
                house.level[name],
                room.path.split("/")[0],
                room.loose,
            )
            for name, room in sorted(house.rooms.items())
        ],
        house.arrows(),
        [(what, house.room_of(path)) for what, path in stations],
    )
    return {PAGE: f"{before}{begin}\n\n{table(house)}\n{end}{after}", PICTURE: picture}


def main() -> int:
    """Write, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where something is old"
    )
    check = parser.parse_args().check
    old = []
    for name, content in written().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            old.append(name)
            if not check:
                path.write_text(content, encoding="utf-8")
    if old:
        print(f"{'old' if check else 'written'}: {', '.join(old)}")
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
