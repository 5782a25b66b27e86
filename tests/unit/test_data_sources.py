"""Where data come from: archives, users' datasets, and which settings belong to which source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossip.config import load_task
from gossip.errors import DataError, SettingError
from gossip.learning.data import Dataset, items, load
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task

OWN = {"partition": {"kind": "own"}}
X, Y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) % 2


def saved(folder: Path, **arrays: Any) -> None:
    np.savez(folder / "data.npz", **arrays)


def of(folder: Path, *, source: str = "data.npz", seed: int = 0, **keys: Any) -> Dataset:
    return load(DataSettings(source=source, **keys), seed=seed, folder=folder)


def refused(folder: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        of(folder, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def users(folder: Path, body: str, **keys: Any) -> Dataset:
    (folder / "mine.py").write_text(HEAD + body)
    return of(folder, source="python:mine.py:make", **keys)


HEAD = """
import numpy as np, random, torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

class Squares(Dataset):
    def __init__(self, n, first=0): self.n, self.first = n, first
    def __len__(self): return self.n
    def __getitem__(self, i): return torch.full((3,), float((self.first + i) ** 2)), i % 2

class Stream(IterableDataset):
    def __iter__(self): return iter((np.float32([i, i]), i % 2) for i in range(10))

class Pairs:
    def __len__(self): return 10
    def __getitem__(self, i): return [i, i + 1], ("no", "yes")[i % 2]

class Drawn(Squares):
    def __getitem__(self, i): return torch.rand(2) + np.random.rand() + random.random(), i % 2

class Odd(Squares):
    at = 3
    def __getitem__(self, i): return self.odd(i) if i == self.at else (torch.zeros(2), i % 2)
"""


def test_an_archive_of_x_and_y_is_divided_by_class_and_seed(tmp_path: Path) -> None:
    saved(tmp_path, x=X, y=Y)
    data, again, other = (of(tmp_path, seed=seed, test_fraction=0.4) for seed in (0, 0, 1))
    assert sorted(torch.cat([data.x_train, data.x_test]).tolist()) == X.tolist()
    assert np.bincount(data.y_test).tolist() == [4, 4]
    labels = dict(zip(map(tuple, X.tolist()), Y.tolist(), strict=True))
    assert [labels[tuple(x)] for x in data.x_test.tolist()] == data.y_test.tolist()
    assert torch.equal(data.x_test, again.x_test)
    assert not torch.equal(data.x_test, other.x_test)
    assert len(of(tmp_path).y_test) == 4


def test_an_archive_says_itself_what_is_tested_on_or_does_not(tmp_path: Path) -> None:
    saved(tmp_path, x_train=X, y_train=Y, x_test=X, y_test=Y)
    assert "[data] test_fraction: 'data.npz' has test samples of its own" in refused(
        tmp_path, test_fraction=0.5
    )
    saved(tmp_path, x=X, y=Y, x_test=X, y_test=Y)
    assert "has no array 'x_train'; it needs x_train, y_train, x_test, y_test, or x and y" in refused(
        tmp_path
    )
    saved(tmp_path, x=X)
    assert "has no array 'y'" in refused(tmp_path)
    saved(tmp_path, x=X, y=Y[:-1])
    assert "'x' has 20 samples but 'y' has 19 labels" in refused(tmp_path)
    saved(tmp_path, x=X, y=Y + 0.5)
    assert "'y' holds 0.5 at 0" in refused(tmp_path)


def test_labels_that_are_text_are_classes_wherever_they_come_from(tmp_path: Path) -> None:
    words = np.array(["no", "yes"])[Y]
    saved(tmp_path, x_train=X, y_train=words, x_test=X, y_test=words)
    data = of(tmp_path)
    assert (data.y_test.tolist(), data.preparation.class_names) == (Y.tolist(), ("no", "yes"))
    assert of(tmp_path, class_names=["yes", "no"]).y_test.tolist() == (1 - Y).tolist()
    assert '[data] class_names = ["no", "yes"] (found here)' in refused(tmp_path, **OWN)
    only = of(tmp_path, class_names=["maybe", "yes", "no"], class_subset=[2, 1])
    assert only.preparation.class_names == ("no", "yes")
    saved(tmp_path, x_train=X, y_train=words, x_test=X, y_test=Y)
    assert "'y_train' holds <U3" in refused(tmp_path)
    saved(tmp_path, x=X, y=np.tile(words[:, None], 2))
    assert "'y' has shape (20, 2)" in refused(tmp_path)


def test_class_names_name_the_numbers_and_say_how_many_there_are(tmp_path: Path) -> None:
    saved(tmp_path, x=X, y=Y)
    assert of(tmp_path, class_names=["a", "b", "c"]).classes == 3
    saved(tmp_path, x=X, y=Y + 1)
    assert "'y' holds 2 at 1; [data] class_names has 2 names, for 0 … 1" in refused(
        tmp_path, class_names=["a", "b"]
    )


@pytest.mark.parametrize(
    ("returned", "train", "test"),
    [
        ("Squares(10), Squares(4, 100)", (10, 3), 4),
        ("[Squares(10), Squares(4)]", (10, 3), 4),
        ("Squares(20)", (16, 3), 4),
        ("Subset(ConcatDataset([Squares(10), Squares(10)]), range(20))", (16, 3), 4),
        ("TensorDataset(torch.zeros(20, 1, 4, 4), torch.arange(20) % 2)", (16, 1, 4, 4), 4),
        ("Stream()", (8, 2), 2),
        ("Pairs()", (8, 2), 2),
        ("[([0.5, 1.5], i % 2) for i in range(10)]", (8, 2), 2),
        ("(Stream(), Pairs.__new__(Pairs)) and (Stream(), Stream())", (10, 2), 10),
        ("np.zeros((20, 2)), np.arange(20) % 2", (16, 2), 4),
        ("torch.zeros(20, 2), torch.arange(20) % 2", (16, 2), 4),
        ("{'x': np.zeros((20, 2)), 'y': np.arange(20) % 2}", (16, 2), 4),
    ],
)
def test_a_users_function_gives_what_a_data_loader_takes(
    tmp_path: Path, returned: str, train: tuple[int, ...], test: int
) -> None:
    data = users(tmp_path, f"def make(): return {returned}")
    assert (tuple(data.x_train.shape), len(data.y_test)) == (train, test)
    assert data.classes == 2


def test_items_are_gathered_in_their_order(tmp_path: Path) -> None:
    data = users(tmp_path, "def make(): return Squares(10), Squares(4, 100)")
    assert data.x_train[:, 0].tolist() == [float(i**2) for i in range(10)]
    assert data.x_test[:, 2].tolist() == [float((100 + i) ** 2) for i in range(4)]
    assert data.y_train.tolist() == [i % 2 for i in range(10)]


def test_what_transforms_draw_is_seeded_and_nobody_elses_draws_change(tmp_path: Path) -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first, again = (users(tmp_path, "def make(): return Drawn(10), Drawn(10)", seed=3) for _ in range(2))
    assert torch.equal(first.x_train, again.x_train)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("torch.zeros(2)", ["item 3 is a Tensor", "a pair (x, y)"]),
        ("(torch.zeros(2), 0, 1)", ["item 3 is a tuple of 3", "a pair (x, y)"]),
        ("(torch.zeros(3), 0)", ["x of item 3 is float32 of shape (3,)", "of item 0 float32 of shape (2,)"]),
        ("(torch.zeros(2, dtype=torch.int64), 0)", ["x of item 3 is int64"]),
        ("(torch.zeros(2), 'cat')", ["y of item 3 is <U3"]),
        ("(torch.zeros(2), None)", ["y of item 3 is a NoneType; numbers are needed"]),
        ("([[1], [1, 2]], 0)", ["x of item 3 is no array"]),
        ("1 / 0", ["item 3 fails: ZeroDivisionError"]),
        (
            "(__import__('PIL.Image').Image.new('L', (2, 2)), 0)",
            ["x of item 3", "a transform that makes a tensor"],
        ),
    ],
)
def test_an_item_that_does_not_fit_is_named(tmp_path: Path, item: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        users(tmp_path, f"Odd.odd = lambda self, i: {item}\ndef make(): return Odd(10)")
    for word in ["python:mine.py:make", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "word"),
    [
        ("DataLoader(Squares(10))", "returned a DataLoader; return its dataset"),
        ("Squares(0)", "the dataset is empty"),
        ("Squares(10), Odd(10)", r"make' \(test\): item 3 fails"),
        ("[np.zeros(3), np.zeros(3)]", "item 0 is a ndarray"),
        ("3.5", "returned float; it must return a dict"),
        ("'words'", "returned str; it must return a dict"),
        ("(1, 2, 3)", "returned tuple; it must return a dict"),
    ],
)
def test_what_is_no_dataset_is_one_sentence(tmp_path: Path, returned: str, word: str) -> None:
    with pytest.raises(DataError, match=word):
        users(tmp_path, f"def make(): return {returned}")


def test_items_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "ITEMS_MAX", 9)
    with pytest.raises(DataError, match="more than 9 items; does it ever end"):
        users(tmp_path, "def make(): return Stream()")


def test_a_function_that_gives_test_samples_leaves_none_to_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has test samples of its own"):
        users(tmp_path, "def make(): return Squares(10), Squares(4)", test_fraction=0.5)


TABLE = {"target": "y", "columns": ["a"], "missing": "drop", "standardise": "own", "categories": {"a": ["b"]}}
IMAGES = {"image_size": [2, 2], "image_mode": "L"}


@pytest.mark.parametrize(
    ("source", "foreign"),
    [
        ("digits", {**TABLE, **IMAGES, "test": "x", "test_fraction": 0.5, "arguments": {"n": 1}}),
        ("data.npz", {**TABLE, **IMAGES, "test": "x", "arguments": {"n": 1}}),
        ("python:mine.py:make", {**TABLE, **IMAGES, "test": "x"}),
        ("data.csv", {**IMAGES, "arguments": {"n": 1}}),
        ("pictures", {**TABLE, "arguments": {"n": 1}}),
    ],
)
def test_keys_of_other_sources_are_refused(tmp_path: Path, source: str, foreign: dict[str, Any]) -> None:
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    for key, value in foreign.items():
        assert f"[data] {key} belong" in (said := refused(tmp_path, source=source, **{key: value}))
        assert said.endswith(f", not to '{source}'")


def test_a_source_that_is_nowhere_is_told_from_one_that_is_of_no_kind(tmp_path: Path) -> None:
    assert "there is no file or folder" in refused(tmp_path, source="some/where")
    (tmp_path / "data.xlsx").write_bytes(b"x")
    assert "is unknown; valid: digits, a path that ends in .npz, .csv, .tsv, .parquet" in refused(
        tmp_path, source="data.xlsx"
    )


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ('columns = ["a"]\ndrop = ["b"]', "'columns' and 'drop' exclude each other"),
        ('test = "a.csv"\ntest_fraction = 0.1', "'test' and 'test_fraction' exclude each other"),
        ("columns = []", r"columns = \[\]: names are needed"),
        ('columns = ["a", "a"]', "columns: 'a' stands there twice"),
        ('categories = { hue = ["a", "b", "a"] }', "categories.hue: 'a' stands there twice"),
        ("categories = { hue = [] }", r"categories.hue = \[\]: names are needed"),
        ('class_names = ["a"]', "two classes at least"),
        ('class_names = ["a", "b"]\nclasses = 3', "classes = 3, but class_names has 2"),
        ("statistics = { age = [1, 2] }", 'statistics belong to standardise = "given"'),
        ('standardise = "given"', "needs \\[data.statistics\\]"),
        ('standardise = "given"\nstatistics = { age = [1, 0] }', "statistics.age = .*standard deviation > 0"),
        ('standardise = "given"\nstatistics = { age = [1] }', "statistics.age = .*standard deviation > 0"),
        ("image_size = [0, 8]", "image_size = \\[0, 8\\]: \\[height, width\\]"),
        ("image_size = [8]", "image_size"),
        ("test_fraction = 1.0", "test_fraction = 1.0: must be less than 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_read(
    tmp_path: Path, written: str, word: str
) -> None:
    (tmp_path / "task.toml").write_text(f"[data]\n{written}\n")
    with pytest.raises(SettingError, match=word) as caught:
        load_task(tmp_path / "task.toml")
    assert "task.toml" in str(caught.value)


def test_another_source_drops_the_keys_that_it_does_not_take_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text(
        '[data]\nsource = "a.csv"\ntarget = "y"\ndrop = ["id"]\ntest_fraction = 0.1\n'
    )

    def keys(source: str) -> set[str]:
        data = load_task(tmp_path / "task.toml", arguments={"data": {"source": source}}).data
        return {key for key in ("target", "drop", "test_fraction") if data.is_set(key)}

    every = {"target", "drop", "test_fraction"}
    assert keys("/mine/b.parquet") == keys("/mine/folder") == every
    assert keys("/mine/b.npz") == keys("python:mine.py:make") == {"test_fraction"}
    assert keys("digits") == set()
    pictures = ['data.source="photos"', "data.image_size=[2, 2]"]
    assert load_task(overrides=[*pictures, 'data.source="other"']).data.image_size == (2, 2)
    assert load_task(overrides=[*pictures, 'data.source="b.csv"']).data.image_size is None


def test_a_later_word_on_columns_or_test_samples_replaces_the_earlier(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('[data]\nsource = "a.csv"\ncolumns = ["a"]\ntest_fraction = 0.1\n')
    data = load_task(tmp_path / "task.toml", overrides=['data.drop=["b"]', "data.test=t.csv"]).data
    assert (data.columns, data.drop, data.test_fraction, data.test) == (None, ("b",), None, "t.csv")


def test_a_column_may_be_called_kind(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('[data.categories]\nkind = ["a", "b"]\nhue = ["red"]\n')
    data = load_task(tmp_path / "task.toml", overrides=['data.categories.kind=["a"]']).data
    assert data.categories == {"kind": ["a"], "hue": ["red"]}


def test_a_table_is_learnt_from(tmp_path: Path) -> None:
    """A machine's own file: all of it is its shard, and a network of ours takes it."""
    rows = [f"{i / 20},{('red', 'blue')[i % 2]},{('no', 'yes')[i % 2]}" for i in range(20)]
    (tmp_path / "data.csv").write_text("\n".join(["x,colour,y", *rows]))
    settings = load_task(
        arguments={"data": {"source": str(tmp_path / "data.csv")}},
        overrides=[
            "data.target=y",
            'data.categories.colour=["blue", "red"]',
            'data.class_names=["no", "yes"]',
        ],
    )
    task = Task(
        data=settings.data,
        model=ModelSettings(name="logistic"),
        local=LocalSettings(lr=1.0, epochs=20),
        seed=0,
        folder=tmp_path,
    )
    task.check()
    shard = task.shard(1, 3)
    assert (tuple(shard.x.shape), task.taken_shape) == ((16, 3), (3,))
    trained = task.local_training().run(task.initial(), shard.x, shard.y, seed=0, peer="a", round=0)
    assert task.evaluate(trained.model).score == 1
