"""Tables as data: which columns become which inputs, what peers must share, a sentence for what does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import DataError, ExitCode
from gossip.learning.data import Dataset, Preparation, load, prepare
from gossip.learning.objectives.settings import OBJECTIVES
from gossip.learning.settings import DataSettings
from tests.laws import tried

AGES = [31, 45, 28, 60, 52, 39, 44, 71, 33, 50]
COLOURS = ["red", "blue", "red", "green", "blue", "red", "blue", "green", "red", "blue"]
KINDS = ["benign", "malignant"] * 5

ROWS: dict[str, Sequence[Any]] = {
    "id": list(range(10)),
    "age": AGES,
    "colour": COLOURS,
    "smokes": [True, False] * 5,
    "kind": KINDS,
}

SHARED = {
    "target": "kind",
    "drop": ["id"],
    "class_names": ["benign", "malignant"],
    "categories": {"colour": ["blue", "green", "red"]},
}
OWN = {"partition": {"kind": "own"}}


def written(folder: Path, rows: dict[str, Sequence[Any]] = ROWS, name: str = "data.csv") -> str:
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.table(dict(rows)), folder / name)
        return name
    mark = "\t" if name.endswith(".tsv") else ","
    lines = [mark.join(rows)]
    for row in zip(*rows.values(), strict=True):
        lines.append(mark.join("" if value is None else str(value) for value in row))
    (folder / name).write_text("\n".join(lines) + "\n")
    return name


def of(folder: Path, rows: dict[str, Sequence[Any]] = ROWS, *, seed: int = 0, **keys: Any) -> Dataset:
    source = written(folder, rows, keys.pop("name", "data.csv"))
    return load(DataSettings(source=source, **keys), seed=seed, folder=folder)


def every(data: Dataset) -> list[list[float]]:
    return sorted(torch.cat([data.x_train, data.x_test]).tolist())


def refused(folder: Path, rows: dict[str, Sequence[Any]] = ROWS, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        of(folder, rows, **keys)
    assert caught.value.exit_code == ExitCode.DATA_UNUSABLE
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_one(column: str, row: int, value: Any) -> dict[str, Sequence[Any]]:
    """Return the rows with one other value; rows count from 1."""
    changed = list(ROWS[column])
    changed[row - 1] = value
    return {**ROWS, column: changed}


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.parquet", "DATA.CSV"])
def test_a_table_gives_numbers_and_one_input_for_each_category(tmp_path: Path, name: str) -> None:
    data = of(tmp_path, name=name, **SHARED, **OWN)
    hot = {"blue": [1, 0, 0], "green": [0, 1, 0], "red": [0, 0, 1]}
    rows = [
        [age, *hot[colour], 1.0 - i % 2] for i, (age, colour) in enumerate(zip(AGES, COLOURS, strict=True))
    ]
    assert every(data) == sorted(rows)
    assert data.x_train.dtype is torch.float32
    labels = {tuple(row): i % 2 for i, row in enumerate(rows)}
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [labels[tuple(row)] for row in x.tolist()] == y.tolist()
    assert (data.classes, data.preparation.class_names) == (2, ("benign", "malignant"))
    assert data.doubts == ()


def test_columns_are_taken_in_the_order_that_the_settings_say(tmp_path: Path) -> None:
    data = of(tmp_path, target="kind", columns=["smokes", "age"])
    assert every(data) == sorted([1.0 - i % 2, age] for i, age in enumerate(AGES))


def test_where_one_file_is_divided_it_says_itself_which_values_there_are(tmp_path: Path) -> None:
    written(tmp_path, with_one("colour", 1, "violet"), "test.csv")
    data = of(tmp_path, target="kind", columns=["colour"], test="test.csv")
    assert data.preparation.columns[0].vocabulary == ("blue", "green", "red", "violet")
    assert data.preparation.class_names == ("benign", "malignant")


def test_on_machines_with_data_of_their_own_values_that_others_may_lack_are_refused_with_the_line_to_write(
    tmp_path: Path,
) -> None:
    keys = {key: value for key, value in SHARED.items() if key != "categories"}
    said = refused(tmp_path, **keys, **OWN)
    assert 'under [data.categories]: colour = ["blue", "green", "red"] (found here)' in said
    keys = {key: value for key, value in SHARED.items() if key != "class_names"}
    said = refused(tmp_path, **keys, **OWN)
    assert "'kind' holds names, and every machine has its own data" in said
    assert '[data] class_names = ["benign", "malignant"] (found here)' in said


def test_numbers_that_are_names_are_one_hot_where_the_settings_say_so(tmp_path: Path) -> None:
    zones = ["01", "2"] * 5
    data = of(tmp_path, {"zone": zones, "kind": KINDS}, target="kind", categories={"zone": ["01", "2"]})
    assert every(data) == sorted([[1.0, 0.0], [0.0, 1.0]] * 5)


@pytest.mark.parametrize("names", [["3", "5"], ["5", "3"]])
def test_class_names_that_are_numbers_are_looked_up(tmp_path: Path, names: list[str]) -> None:
    data = of(tmp_path, {"age": AGES, "grade": [3, 5] * 5}, target="grade", class_names=names)
    grades = {float(age): (3, 5)[i % 2] for i, age in enumerate(AGES)}
    assert [int(names[label]) for label in data.y_train] == [grades[float(age)] for age in data.x_train[:, 0]]


@given(st.integers(0, 3), st.sampled_from([None, 0.3, 0.5]))
@tried(0.2)
def test_of_each_class_the_same_share_is_tested_on_and_the_seed_alone_says_which(
    tmp_path_factory, seed, share
):
    folder = tmp_path_factory.mktemp("table")
    count = 60
    rows = {"n": list(range(count)), "kind": [("a", "b", "b")[i % 3] for i in range(count)]}
    keys = {"target": "kind"} | ({} if share is None else {"test_fraction": share})
    data, again, other = (of(folder, rows, seed=each, **keys) for each in (seed, seed, seed + 1))
    assert every(data) == [[float(n)] for n in range(count)]
    assert np.bincount(data.y_test).tolist() == [round(20 * (share or 0.2)), round(40 * (share or 0.2))]
    assert torch.equal(data.x_test, again.x_test)
    assert not torch.equal(data.x_test, other.x_test)


def test_a_file_of_its_own_is_tested_on_and_prepared_as_the_training_rows_were(tmp_path: Path) -> None:
    rows = {
        "age": [100.0, None],
        "colour": ["green", "red"],
        "smokes": [True, True],
        "kind": ["malignant"] * 2,
    }
    written(tmp_path, {**rows, "id": [1, 2]}, "test.tsv")
    data = of(tmp_path, **SHARED, **OWN, test="test.tsv", standardise="own", missing="mean")
    assert len(data.x_train) == 10
    mean, std = np.mean(AGES), np.std(AGES)
    assert data.x_test[:, 0].tolist() == pytest.approx([(100 - mean) / std, 0.0], abs=1e-6)
    assert data.y_test.tolist() == [1, 1]


def test_statistics_are_those_given_or_those_of_the_training_rows(tmp_path: Path) -> None:
    keys = {"target": "kind", "columns": ["age", "colour"]}
    given = of(tmp_path, **keys, standardise="given", statistics={"age": [45, 10.0]})
    assert sorted(row[0] for row in every(given)) == pytest.approx(sorted((age - 45) / 10 for age in AGES))
    own = of(tmp_path, **keys, standardise="own")
    assert float(own.x_train[:, 0].mean()) == pytest.approx(0, abs=1e-6)
    assert float(own.x_train[:, 0].std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert set(own.x_train[:, 1:].unique().tolist()) == {0.0, 1.0}
    assert str(own.preparation) == "2 columns as 4 inputs and standardised"
    assert own.doubts == ()
    (doubt,) = of(tmp_path, **SHARED, **OWN, standardise="own").doubts
    assert "by this machine's own rows" in doubt


def test_a_column_that_does_not_vary_stays_finite(tmp_path: Path) -> None:
    data = of(tmp_path, {"one": [7] * 10, "kind": KINDS}, target="kind", standardise="own")
    assert data.x_train.unique().tolist() == [0.0]


@pytest.mark.parametrize("name", ["data.csv", "data.parquet"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_number_is_refused_filled_or_its_row_left_out(
    tmp_path: Path, name: str, value: Any
) -> None:
    rows = with_one("age", 4, value)
    keys = {"target": "kind", "columns": ["age"], "name": name}
    assert "column 'age' has no value in row 4 (1 such row of 10)" in refused(tmp_path, rows, **keys)
    left = of(tmp_path, rows, **keys, missing="drop")
    assert every(left) == sorted([float(age)] for age in AGES if age != 60)
    assert "1 row is left out" in left.doubts[0]
    filled = of(tmp_path, rows, **keys, missing="mean")
    (column,) = filled.preparation.columns
    trained = [x for x in filled.x_train[:, 0].tolist() if x in AGES]
    assert column.fill == pytest.approx(np.mean(trained))
    assert sum(row[0] not in AGES for row in every(filled)) == 1
    statistics = {"standardise": "given", "statistics": {"age": [40.0, 2.0]}}
    assert of(tmp_path, rows, **keys, **statistics, missing="mean").preparation.columns[0].fill == 40


def test_missing_text_and_missing_labels_have_no_mean(tmp_path: Path) -> None:
    keys = {"target": "kind", "columns": ["colour"]}
    gone = with_one("colour", 2, None)
    assert "column 'colour' has no value in row 2" in refused(tmp_path, gone, **keys)
    assert "text has no mean" in refused(tmp_path, gone, **keys, missing="mean")
    gone = with_one("kind", 3, None)
    for missing in ("refuse", "mean"):
        assert "'kind', the target, has no value in row 3" in refused(tmp_path, gone, **keys, missing=missing)
    assert len(every(of(tmp_path, gone, **keys, missing="drop"))) == 9


@pytest.mark.parametrize(
    ("rows", "keys", "words"),
    [
        (ROWS, {}, ["target is missing", "data.csv", "(columns: id, age, colour, smokes, kind)"]),
        (ROWS, {"target": "kinds"}, ["no column 'kinds'", "did you mean 'kind'?", "(columns: id, age"]),
        (ROWS, {"target": "kind", "columns": ["ages"]}, ["[data] columns", "'ages'", "did you mean 'age'?"]),
        (ROWS, {"target": "kind", "drop": ["x"]}, ["[data] drop", "no column 'x'", "(columns:"]),
        (ROWS, {"target": "kind", "columns": ["age", "kind"]}, ["'kind' is the target"]),
        (ROWS, {"target": "kind", "categories": {"hue": ["a"]}}, ["[data] categories", "no column 'hue'"]),
        (
            ROWS,
            {"target": "kind", "columns": ["age"], "categories": {"colour": ["a"]}},
            ["[data.categories] colour", "no part of a sample"],
        ),
        (
            ROWS,
            {"target": "kind", "categories": {"colour": ["red", "blue"]}},
            ["column 'colour' holds 'green' in row 4", 'colour = ["red", "blue"]'],
        ),
        (
            ROWS,
            {"target": "kind", "class_names": ["benign", "bad"]},
            ['"malignant" in row 2', '["benign", "bad"]'],
        ),
        (with_one("age", 7, "?"), {"target": "kind"}, ["column 'age' holds numbers but for '?' in row 7"]),
        (with_one("age", 7, "inf"), {"target": "kind"}, ["column 'age' holds inf in row 7"]),
        ({**ROWS, "day": ["2024-01-02"] * 10}, {"target": "kind"}, ["column 'day' holds date32", '["day"]']),
        ({"a": [1] * 10, "y": ["2024-01-02"] * 10}, {"target": "y"}, ["'y', the target, holds date32"]),
        ({"kind": KINDS}, {"target": "kind"}, ["no column is left to learn from"]),
        (
            {"name": [f"n{i}" for i in range(1001)], "y": [0] * 1001},
            {"target": "y"},
            ["column 'name' holds 1001 different texts", '[data] drop = ["name"]'],
        ),
        (
            ROWS,
            {"target": "kind", "standardise": "given", "statistics": {"age": [0, 1]}},
            ["columns 'id', 'smokes' hold numbers", "[0, 1] for one that is to stay"],
        ),
        (
            ROWS,
            {"target": "kind", "columns": ["age"], "standardise": "given", "statistics": {"aeg": [0, 1]}},
            ["[data.statistics] aeg", "no column of numbers"],
        ),
        (
            {"a": [0.5] * 10, "y": [0.5] * 10},
            {"target": "y"},
            ["'y' holds 0.5 at 0", "class numbers are whole"],
        ),
        ({"a": [None] * 10, "y": [0, 1] * 5}, {"target": "y", "missing": "mean"}, ["'a'", "no mean"]),
        ({"a": [None] * 10, "y": [0, 1] * 5}, {"target": "y", "missing": "drop"}, ["every row lacks"]),
        (ROWS, {"target": "kind", "test": "other.npz"}, ["[data] test = 'other.npz'", ".parquet"]),
        (ROWS, {"target": "kind", "test": "other.csv"}, ["[data] test: there is no file", "other.csv"]),
        ({"a;b;y": ["1;2;3"]}, {"target": "y"}, ["one column only", "separated by commas"]),
        ({"a": [], "y": []}, {"target": "y"}, ["data.csv: no rows"]),
        (
            {"a": [1, 2], "y": [0, 1]},
            {"target": "y"},
            ["test_fraction = 0.2", "samples enough to set one aside"],
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence_naming_file_column_and_row(
    tmp_path: Path, rows: dict[str, Any], keys: dict[str, Any], words: list[str]
) -> None:
    said = refused(tmp_path, rows, **keys)
    for word in words:
        assert word in said


def test_a_test_file_that_differs_is_named(tmp_path: Path) -> None:
    written(tmp_path, {"age": [1], "kind": ["benign"]}, "test.csv")
    assert "test.csv: there is no column 'colour'" in refused(
        tmp_path, target="kind", columns=["colour"], test="test.csv"
    )
    written(tmp_path, {"colour": ["red"]}, "test.csv")
    assert "test.csv: there is no column 'kind'" in refused(
        tmp_path, target="kind", columns=["colour"], test="test.csv"
    )
    written(tmp_path, {"age": ["old"], "kind": ["benign"]}, "test.csv")
    assert "test.csv: column 'age' holds string" in refused(
        tmp_path, target="kind", columns=["age"], test="test.csv"
    )


@pytest.mark.parametrize("where", ["train", "test"])
def test_a_label_that_is_no_class_is_told_with_its_file_and_the_row_that_it_has_there(
    tmp_path: Path, where: str
) -> None:
    """Rows are counted as in the file, those that were left out included."""
    good = {"a": [1, None, 2, 3, None, 5], "kind": ["p", "q", "p", "q", "p", "p"]}
    bad = {**good, "kind": ["p", "q", "p", "odd", "p", "q"]}
    numbers = {**good, "kind": [0, 1, 0, 7, 0, 0]}
    for table, told in ((bad, '"odd"'), (numbers, "7")):
        written(tmp_path, table if where == "test" else good, "test.csv")
        said = refused(
            tmp_path,
            good if where == "test" else table,
            target="kind",
            missing="drop",
            test="test.csv",
            class_names=["p", "q"],
        )
        assert f"{'test' if where == 'test' else 'data'}.csv: 'kind' holds {told} in row 4" in said


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a readable table"),
        (b"a,b\n1,2\n1,2,3\n", r"data.csv: row 2 has 3 values, and there are 2 columns: '1,2,3'; leave"),
        (b'a,b\n\n"x\ny",2\n\n3\n', r"data.csv: row 2 has 1 value, and there are 2 columns: '3'; leave"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b"a,b\n\xff\xfe,2\n3,4\n", "column 'a' holds text that is not in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(DataError, match=word):
        load(DataSettings(source="data.csv", target="b"), seed=0, folder=tmp_path)


def test_a_file_that_is_no_parquet_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(DataError, match=r"data\.parquet is not a readable table") as caught:
        load(DataSettings(source="data.parquet", target="b"), seed=0, folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_numbers_that_rather_name_the_rows_are_told(tmp_path: Path) -> None:
    rows = {**ROWS, "id": [2**30 + i for i in range(10)]}
    (doubt,) = of(tmp_path, rows, target="kind").doubts
    assert "column 'id' holds whole numbers up to 1073741833" in doubt
    assert '[data] drop = ["id"]' in doubt


def test_new_rows_are_prepared_as_the_training_rows_were_also_after_a_walk_through_json(
    tmp_path: Path,
) -> None:
    data = of(tmp_path, with_one("age", 9, None), **SHARED, **OWN, missing="mean", standardise="own")
    kept = Preparation.of(json.loads(json.dumps(data.preparation.as_dict())))
    assert kept == data.preparation
    age, *_ = kept.columns
    rows = {"smokes": [True, False], "age": [age.mean, None], "colour": ["red", "blue"], "more": [1, 2]}
    new = prepare(rows, kept)
    assert new.dtype is torch.float32
    assert new.tolist() == [[0, 0, 0, 1, 1], [0, 1, 0, 0, -1]]
    written(tmp_path, ROWS, "new.csv")
    again = prepare(tmp_path / "new.csv", kept)
    assert {tuple(row) for row in data.x_test.tolist()} <= {tuple(row) for row in again.tolist()}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"age": [1]}, "no column 'colour'"),
        ({"age": [1], "colour": ["mauve"]}, "'mauve' in row 1"),
        ({"age": [1, None], "colour": ["red", "red"]}, "column 'age' has no value in row 2"),
        ({"age": ["x"], "colour": ["red"]}, "numbers are needed"),
        ({"age": [1, 2], "colour": ["red"]}, "no table"),
    ],
)
def test_new_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: dict[str, Any], words: str) -> None:
    kept = of(tmp_path, target="kind", columns=["age", "colour"]).preparation
    with pytest.raises(DataError, match=words):
        prepare(rows, kept)


def test_what_the_inputs_mean_is_told_for_peers_to_compare(tmp_path: Path) -> None:
    one = of(tmp_path, target="kind", columns=["age", "colour"]).preparation.meaning
    assert one == {
        "columns": [["age", None], ["colour", ["blue", "green", "red"]]],
        "class_names": ["benign", "malignant"],
    }
    assert of(tmp_path, target="kind", columns=["colour", "age"]).preparation.meaning != one
    assert load(DataSettings(), seed=0, folder=tmp_path).preparation.meaning == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a;b;kind\n1,5;2;0\n", "one column only, 'a;b;kind'"),
        (b"a|b|kind\n1|2|0\n", "one column only, 'a|b|kind'"),
        ("größe,kind\n1,0\n".encode("latin-1"), "the names of the columns are not in UTF-8"),
        ("a,kind\nweiß,0\n".encode("latin-1"), "column 'a' holds text that is not in UTF-8"),
        ("a,kind\n1,0\n".encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
        (b"a,kind\n50%,0\n7%,1\n", "column 'a' holds numbers as text, such as '50%' in row 1"),
        (b'a,kind\n"1,200",0\n"3,400",1\n', "column 'a' holds numbers as text, such as '1,200' in row 1"),
    ],
)
def test_a_table_that_is_written_otherwise_is_told_how(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(DataSettings(source="data.csv", target="kind"), seed=0, folder=tmp_path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_that_are_measured_are_set_aside_as_measurements(tmp_path: Path) -> None:
    choice = OBJECTIVES.validate({"kind": "regression"})
    source = written(tmp_path, {"a": list(range(40)), "price": [1000 + 7 * i for i in range(40)]})
    found = load(
        DataSettings(source=source, target="price"),
        seed=0,
        folder=tmp_path,
        objective=choice.load()(choice),
    )
    assert (len(found.y_train), len(found.y_test)) == (32, 8)


def test_texts_that_rather_name_the_rows_and_numbers_that_rather_name_classes_are_told(
    tmp_path: Path,
) -> None:
    rows = {"who": [f"p{i}" for i in range(40)], "a": list(range(40)), "kind": [10, 20] * 20}
    found = of(tmp_path, rows, target="kind")
    assert "column 'who' is text with 40 values in 40 rows" in found.doubts[0]
    assert "the class numbers are 10, 20, and the network gets an output for every number" in found.doubts[1]
    assert len(of(tmp_path, rows, target="kind", classes=21).doubts) == 1
