"""Three real nodes agree on statistics, and learn with the file that they have made."""

from __future__ import annotations

import csv
import random
import tomllib
from pathlib import Path

import numpy as np
import pytest

from gossip.config import load_task
from gossip.errors import SettingError
from gossip.learning.data.measuring import own_table
from gossip.learning.settings import DataSettings
from scenarios import scenario
from tests.integration.homes import forked, make_homes

NAMES = ("alice", "bob", "carol")
TASK = """
[data]
target = "kind"
statistics = "agreed.toml"
test_fraction = 0.25
missing = "mean"
[topology]
kind = "full"
[model]
hidden = [4]
[stop]
rounds = 2
[net]
backoff_max_s = 0.5
[node]
threads = 1
"""


def tables(folder: Path) -> None:
    """Write a table for each: no two have the same colours."""
    draw = random.Random(3)
    for number, name in enumerate(NAMES):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["size", "age", "colour", "kind"])
            for row in range(20):
                size = "" if row == 0 else draw.gauss(10 * number, 3)
                colours = ("red", ("green", "blue", "grey")[number])
                writer.writerow([size, draw.randint(20, 90), colours[row % 2], "ny"[row // 2 % 2]])


def start(folder: Path, command: str, name: str, *more: str):
    argv = [command] if command else []
    argv += [
        "--peers",
        str(folder / "peers.txt"),
        "--home",
        str(folder / name),
        "--task",
        str(folder / "task.toml"),
    ]
    return forked(name, [*argv, "--data", str(folder / f"{name}.csv"), *more], folder / f"{name}.log")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_homes(tmp_path, NAMES)
    tables(tmp_path)
    (tmp_path / "task.toml").write_text(TASK)
    return tmp_path


def logs(folder: Path) -> str:
    return "".join((folder / f"{name}.log").read_text() for name in NAMES)


def test_three_nodes_write_the_same_file_and_learn_with_it(folder: Path) -> None:
    outs = {name: folder / f"{name}.toml" for name in NAMES}
    started = [start(folder, "statistics", name, "--out", str(outs[name])) for name in NAMES]
    assert [process.wait() for process in started] == [0, 0, 0], logs(folder)
    contents = {out.read_bytes() for out in outs.values()}
    assert len(contents) == 1
    found = tomllib.loads(contents.pop().decode())
    assert found["class_names"] == ["n", "y"]
    assert found["categories"] == {"colour": ["blue", "green", "grey", "red"]}
    assert found["statistics"].keys() == {"size", "age"}
    outs["alice"].rename(folder / "agreed.toml")
    settings = load_task(folder / "task.toml", arguments={"data": {"source": str(folder / "alice.csv")}})
    assert settings.data.standardise == "given"
    assert {f"data.{key}" for key in found} <= settings.agreement().keys()
    started = [
        start(folder, "", name, *(["--statistics", str(outs[name])] if name != "alice" else []))
        for name in NAMES
    ]
    assert [process.wait() for process in started] == [0, 0, 0], logs(folder)


def test_who_is_missing_is_named(folder: Path) -> None:
    started = [start(folder, "statistics", name, "--wait", "2") for name in NAMES[:2]]
    assert [process.wait() for process in started] == [3, 3]
    for name in NAMES[:2]:
        said = (folder / f"{name}.log").read_text()
        assert "after 2 s somebody still has not told what its table has: carol" in said
    assert not (folder / "agreed.toml").exists()


def test_other_columns_are_one_sentence_everywhere(folder: Path) -> None:
    path = folder / "bob.csv"
    path.write_text(path.read_text().replace("age", "years"))
    started = [start(folder, "statistics", name) for name in NAMES]
    assert [process.wait() for process in started] == [4, 4, 4]
    assert logs(folder).count("gossip-node: bob has no column 'age', which alice has") == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("full", "star"), "one peer is all that others have as a way to the rest"),
        (('"agreed.toml"', "{ age = [1.0, 2.0] }\nstandardise = 'given'"), "statistics are given already"),
        (("missing", 'partition = { kind = "iid" }\nmissing'), "one table is divided"),
    ],
)
def test_what_cannot_be_agreed_on_safely_is_refused(
    folder: Path, change: tuple[str, str], sentence: str
) -> None:
    (folder / "task.toml").write_text(TASK.replace(*change))
    process = start(folder, "statistics", "alice")
    assert process.wait() == 2
    assert sentence in (folder / "alice.log").read_text()


def test_a_file_that_is_not_there_or_of_something_else_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text('[data]\nsource = "x.csv"\nstatistics = "gone.toml"\n')
    with pytest.raises(
        SettingError, match=r"task.toml:3: \[data\] statistics = 'gone.toml': there is no file"
    ):
        load_task(path)
    (tmp_path / "gone.toml").write_text("rounds = 3\n")
    with pytest.raises(SettingError, match=r"gone\.toml: unknown key 'rounds' of agreed statistics"):
        load_task(path)


def test_what_the_settings_say_themselves_counts(tmp_path: Path) -> None:
    (tmp_path / "agreed.toml").write_text(
        'class_names = ["a", "b"]\n[statistics]\nx = [1.0, 2.0]\n[categories]\nc = ["u"]\nd = ["v"]\n'
    )
    path = tmp_path / "task.toml"
    own = 'class_names = ["b", "a"]\ncategories = { c = ["w"] }\n'
    path.write_text(f'[data]\nsource = "x.csv"\nstatistics = "agreed.toml"\n{own}')
    data = load_task(path).data
    assert data.class_names == ("b", "a")
    assert data.categories == {"c": ["w"], "d": ["v"]}
    assert data.statistics == {"x": [1.0, 2.0]}


def test_a_scenario_reads_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "agreed.toml").write_text("[statistics]\nx = [1.0, 2.0]\n")
    path = tmp_path / "scenario.toml"
    path.write_text(
        '[scenario]\npeers = 3\n[topology]\nkind = "full"\n'
        '[data]\nsource = "x.csv"\ntarget = "y"\nstatistics = "agreed.toml"\n'
    )
    assert scenario.load(path).data.statistics == {"x": [1.0, 2.0]}


def test_the_numbers_are_those_of_all_training_rows(folder: Path) -> None:
    started = [start(folder, "statistics", name) for name in NAMES]
    assert [process.wait() for process in started] == [0, 0, 0], logs(folder)
    settings = DataSettings(
        source="", target="kind", test_fraction=0.25, missing="mean", partition=load_task().data.partition
    )
    owns = [
        own_table(
            settings.model_copy(update={"source": str(folder / f"{name}.csv")}),
            folder=folder,
            seed=0,
            classifies=True,
        )
        for name in NAMES
    ]
    sizes = np.concatenate([own.numbers["size"] for own in owns])
    sizes = sizes[~np.isnan(sizes)]
    assert 30 < len(sizes) < 57
    found = tomllib.loads((folder / "agreed.toml").read_text())["statistics"]["size"]
    assert found == pytest.approx([sizes.mean(), sizes.std()], rel=1e-9)
