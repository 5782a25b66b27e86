"""The pages about the house say what is so: drawing, rooms, paths and numbers are those of the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from gossip.draws import Draws
from gossip.learning.settings import LocalSettings
from gossip.learning.updates.settings import OPTIMIZERS
from gossip.wire.codecs.settings import CODECS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import architecture  # noqa: E402


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of all table rows of a page."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.fixture(scope="module")
def house() -> architecture.House:
    return architecture.House()


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return architecture.written()


@pytest.mark.parametrize("name", [architecture.PAGE, architecture.PICTURE])
def test_drawing_and_rooms_are_those_of_the_code(name: str, written: dict[str, str]) -> None:
    found = (ROOT / name).read_text(encoding="utf-8")
    assert found == written[name], f"{name} is old: run  python tools/architecture.py"


def test_every_package_is_a_room_with_a_sentence(house: architecture.House, written: dict[str, str]) -> None:
    packages = [
        path.parent.relative_to(ROOT).as_posix()
        for top in architecture.HOUSES
        for path in sorted((ROOT / top).rglob("__init__.py"))
    ]
    assert len(packages) > 15
    for package in packages:
        line = re.search(rf"(?:\| `{package}` \| |\*\*{package}\*\*: )(.+)", written[architecture.PAGE])
        assert line is not None, f"{package} is in no list of rooms"
        assert len(line[1]) > 20, f"{package}/__init__.py says nothing of itself"
        house_, _, rest = package.partition("/")
        room = "/".join(package.split("/")[:2])
        if rest:
            assert f">{room}<" in written[architecture.PICTURE]
            inner = package.removeprefix(room).strip("/")
            assert not inner or f">{inner}/<" in written[architecture.PICTURE]
        assert f">{house_}" in written[architecture.PICTURE]


def test_every_arrow_goes_down_or_within_a_circle(house: architecture.House) -> None:
    import networkx as nx

    for above, below in house.imports.edges:
        if house.level[above] < house.level[below]:
            assert nx.has_path(house.imports, below, above), (
                f"{above} is drawn below {below}, which it imports"
            )


def test_the_arrows_say_all_that_is_imported_and_no_more(house: architecture.House) -> None:
    import networkx as nx

    drawn = nx.DiGraph(house.arrows())
    for above, below in house.imports.edges:
        assert nx.has_path(drawn, above, below)
    assert set(drawn.edges) <= set(house.imports.edges)


@pytest.mark.parametrize("page", ["docs/architecture.md", "examples/extending/README.md"])
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:gossip|scenarios|topologies|tests|tools|docs)/[^`\s:]+|own_\w+\.py)`", text)
    assert named
    for path in named:
        assert (ROOT / path).exists() or ((ROOT / page).parent / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "examples").rglob("README.md"))),
        "gossip/learning/README.md",
        "gossip/wire/README.md",
    ],
)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_defaults_of_local_settings_are_as_told() -> None:
    told = {row[0].strip("`"): row[1] for row in rows_of("gossip/learning/README.md") if len(row) == 3}
    wanted = LocalSettings().model_dump(mode="json")
    for key, value in wanted.items():
        assert told[key] == str(value["kind"] if key == "optimizer" else value).lower(), key


def test_the_defaults_of_the_optimizers_are_as_told() -> None:
    text = (ROOT / "gossip/learning/README.md").read_text(encoding="utf-8")
    for kind, said in re.findall(r"`([\w-]+)`: ((?:`\w+` [\w.-]+(?:, )?)+)", text):
        fields = OPTIMIZERS.settings_for(kind).model_fields
        told = dict(re.findall(r"`(\w+)` ([\w-]+(?:\.\d+)?)", said))
        defaults = {key: field.default for key, field in fields.items() if key != "kind"}
        assert told == {key: str(value).lower() for key, value in defaults.items()}


def test_bytes_range_and_exactness_of_codecs_are_as_told() -> None:
    table = [row for row in rows_of("gossip/wire/README.md") if row[0].partition("`")[2]]
    told = [row for row in table if row[0].split("`")[1] in CODECS]
    assert told
    for kind_cell, nbytes, largest, _ in told:
        settings = CODECS.validate({"kind": kind_cell.split("`")[1]})
        codec = settings.load()(settings)
        assert sum(spec.nbytes for spec in codec.specs(1000)) / 1000 == pytest.approx(float(nbytes), rel=0.01)
        if codec.reference != "none":
            continue  # numbers of its own hang on what was sent before
        draws = [Draws(0, "peer-00", number) for number in range(2)]
        most = torch.tensor([[torch.finfo(torch.float32).max * 0.99], [float("inf")]])
        held = codec.coded(most, draws)
        assert float(held[0]) == pytest.approx(float(largest), rel=0.02)
        assert not bool(held[1].isfinite())
