"""Images as data: a folder for each class, or encoded in tables as Hugging Face lays them out."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from gossip.errors import DataError, ExitCode
from gossip.learning.data import Dataset, Preparation, load, prepare
from gossip.learning.settings import DataSettings

OWN = {"partition": {"kind": "own"}}


def colour(value: int, *, height: int = 4, width: int = 6, mode: str = "RGB") -> Image.Image:
    """Return a picture of which `value` is the first channel, and the others are 0."""
    return Image.new(mode, (width, height), value if len(mode) == 1 else (value, 0, 0, 255)[: len(mode)])


def folders(root: Path, *, count: int = 5, classes: tuple[str, ...] = ("dog", "cat"), **how: Any) -> Path:
    """Write `count` pictures a class: red is 10 · (place of the class) + number."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            colour(10 * place + number, **how).save(root / name / f"{number}.png")
    return root


def of(folder: Path, *, source: str = "data", **keys: Any) -> Dataset:
    return load(DataSettings(source=source, **keys), seed=0, folder=folder)


def refused(folder: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        of(folder, **keys)
    assert caught.value.exit_code == ExitCode.DATA_UNUSABLE
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reds(x: torch.Tensor) -> list[int]:
    return (x[:, 0, 0, 0] * 255).round().int().tolist()


def test_each_sub_folder_is_a_class_and_pictures_are_channels_first_and_at_most_one(tmp_path: Path) -> None:
    folders(tmp_path / "data", count=10)
    data = of(tmp_path)
    assert data.input_shape == (3, 4, 6)
    assert data.x_train.dtype is torch.float32
    assert (len(data.y_train), len(data.y_test)) == (16, 4)
    assert data.preparation.class_names == ("cat", "dog")
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [red < 10 for red in reds(x)] == [label == 1 for label in y.tolist()]  # dogs are 0 … 9
        assert not x[:, 1:].any()
    assert str(data.preparation) == "divided by 255 and read as 4 × 6 pixels (RGB)"
    assert data.doubts == ()


def test_folders_called_train_and_test_are_what_they_say_and_others_are_told(tmp_path: Path) -> None:
    folders(tmp_path / "data" / "train")
    folders(tmp_path / "data" / "test", count=2)
    (tmp_path / "data" / "val").mkdir()
    data = of(tmp_path)
    assert (len(data.y_train), len(data.y_test)) == (10, 4)
    assert "val, which is not used" in data.doubts[0]
    assert "has test samples of its own" in refused(tmp_path, test_fraction=0.3)
    assert "has test samples of its own" in refused(tmp_path, test="elsewhere")


def test_a_folder_of_its_own_may_be_tested_on(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    folders(tmp_path / "other", count=3, classes=("cat",))
    data = of(tmp_path, test="other")
    assert (len(data.y_train), data.y_test.tolist()) == (10, [0, 0, 0])
    assert "there is no folder" in refused(tmp_path, test="nowhere")


def test_class_names_say_the_order_and_which_there_are(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    names = ["fox", "dog", "cat"]
    data = of(tmp_path, class_names=names, **OWN)
    assert (data.classes, set(data.y_train.tolist())) == (3, {1, 2})
    assert data.doubts == ()
    assert [names[label] for label in data.y_train] == [
        ("dog", "cat")[red // 10] for red in reds(data.x_train)
    ]
    assert "'folder' holds \"cat\" at 0, which is not among" in refused(tmp_path, class_names=["fox", "dog"])
    (doubt,) = of(tmp_path, **OWN).doubts
    assert 'class_names = ["cat", "dog"]' in doubt


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (3, 2, 3)), ("L", (1, 2, 3))])
def test_pictures_are_brought_to_one_size_and_mode(tmp_path: Path, mode: str, shape: tuple[int, ...]) -> None:
    for place, kind in enumerate(("RGB", "L", "RGBA", "P", "1", "LA", "CMYK")):
        for name in ("a", "b"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            picture = (
                colour(200).convert(kind) if kind in ("P", "1", "CMYK", "LA") else colour(200, mode=kind)
            )
            suffix = "jpg" if kind == "CMYK" else "png"
            picture.resize((6, 4 + place)).save(tmp_path / "data" / name / f"{kind}.{suffix}")
    data = of(tmp_path, image_size=[2, 3], image_mode=mode)
    assert data.input_shape == shape
    assert 0 <= float(data.x_train.min()) < float(data.x_train.max()) <= 1


def test_pictures_of_several_sizes_need_one_to_be_said(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    colour(1, height=5).save(tmp_path / "data" / "dog" / "7.png")
    said = refused(tmp_path)
    assert str(tmp_path / "data" / "dog" / "7.png") in said
    assert "has 5 × 6 pixels" in said
    assert "[data] image_size = [4, 6]" in said


def test_a_picture_is_read_upright(tmp_path: Path) -> None:
    folders(tmp_path / "data", height=6, width=4)
    held = Image.Exif()
    held[0x0112] = 6  # on its side
    for path in (tmp_path / "data").glob("*/*.png"):
        Image.open(path).rotate(90, expand=True).save(path, exif=held)
    assert of(tmp_path).input_shape == (3, 6, 4)


@pytest.mark.parametrize("content", [b"", b"no picture", "cut"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: Any) -> None:
    folders(tmp_path / "data")
    path = tmp_path / "data" / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:-30] if content == "cut" else content)
    assert f"{path} is no readable image: " in refused(tmp_path)


def test_pictures_of_sixteen_bits_are_not_cut(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    Image.fromarray(np.full((4, 6), 3000, dtype=np.uint16)).save(tmp_path / "data" / "dog" / "3.png")
    assert "more than 8 bits a pixel" in refused(tmp_path)


def test_other_files_are_told_and_hidden_ones_are_nobodys_business(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    (tmp_path / "data" / "dog" / "notes.txt").write_text("good boy")
    (tmp_path / "data" / "dog" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "data" / ".cache").mkdir()
    (doubt,) = of(tmp_path).doubts
    assert "1 files are no images by their names, and not used" in doubt
    assert "notes.txt" in doubt


def test_folders_without_classes_or_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "there are no images in its sub-folders" in refused(tmp_path)
    folders(tmp_path / "one", classes=("cat",))
    assert "has 1 sub-folder; images lie in one for each class" in refused(tmp_path, source="one")


def test_new_pictures_are_prepared_as_the_training_pictures_were(tmp_path: Path) -> None:
    folders(tmp_path / "data")
    data = of(tmp_path, image_size=[2, 2], image_mode="L")
    kept = Preparation.of(json.loads(json.dumps(data.preparation.as_dict())))
    assert kept == data.preparation
    again = prepare(sorted((tmp_path / "data").glob("*/*.png")), kept)
    assert again.shape == (10, 1, 2, 2)
    assert sorted(again[:, 0, 0, 0].tolist()) == sorted(
        torch.cat([data.x_train, data.x_test])[:, 0, 0, 0].tolist()
    )
    assert torch.equal(prepare([encoded(colour(9))], kept), again[-1:]) is False
    with pytest.raises(DataError, match="image 0 is no readable image"):
        prepare([b"nothing"], kept)
    with pytest.raises(DataError, match="no images"):
        prepare([], kept)


@pytest.mark.parametrize("x", [np.full((3, 4, 6), 51, dtype=np.uint8), np.ones((3, 5)), np.ones((3, 4), int)])
def test_new_arrays_are_prepared_as_the_training_arrays_were(tmp_path: Path, x: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "data.npz", x=np.repeat(x, 4, 0), y=np.arange(12) % 2)
    data = of(tmp_path, source="data.npz")
    new = prepare(x, Preparation.of(data.preparation.as_dict()))
    assert (new.dtype, tuple(new.shape[1:])) == (data.x_train.dtype, data.input_shape)
    assert torch.equal(new[0], data.x_train[0])
    planes = data.for_layers()
    assert prepare(np.ones((2, 4, 6)), Preparation(channel_axis=True)).shape == (2, 1, 4, 6)
    assert planes.preparation.divided_by == data.preparation.divided_by


@pytest.mark.parametrize("values", [{}, {"divided_by": 1}, {**Preparation().as_dict(), "columns": [{}]}])
def test_a_saved_preparation_that_is_none_is_one_sentence(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a saved preparation of samples is not as it must be"):
        Preparation.of(values)


def test_where_pillow_is_missing_the_sentence_says_how_to_install_it(tmp_path, monkeypatch) -> None:
    folders(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "Pillow, which is not installed: pip install 'gossip-node[data]'" in refused(tmp_path)


def test_where_pyarrow_is_missing_the_sentence_says_how_to_install_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "data.csv").write_text("a,y\n1,0\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = refused(tmp_path, source="data.csv", target="y")
    assert "pyarrow, which is not installed: pip install 'gossip-node[data]'" in said


def encoded(picture: Image.Image) -> bytes:
    held = io.BytesIO()
    picture.save(held, "PNG")
    return held.getvalue()


LABELS = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}


def described(table: pa.Table, features: dict[str, Any] | None) -> pa.Table:
    """Return the table with the description that `datasets` writes into a schema."""
    if features is None:
        return table
    about = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": about})


def rows(count: int = 10, *, first: int = 0) -> pa.Table:
    return pa.table({"a": [float(first + i) for i in range(count)], "label": [i % 2 for i in range(count)]})


def pictures(count: int = 10) -> pa.Table:
    image = [{"bytes": encoded(colour(20 * i)), "path": f"{i}.png"} for i in range(count)]
    return pa.table({"image": image, "label": [i % 2 for i in range(count)]})


def as_parquet(folder: Path, features: dict[str, Any] | None = LABELS, **splits: pa.Table) -> None:
    (folder / "data").mkdir(parents=True)
    for split, table in splits.items():
        half = len(table) // 2
        for part, piece in enumerate((table[:half], table[half:])):
            path = folder / "data" / f"{split}-{part:05}-of-00002.parquet"
            pyarrow.parquet.write_table(described(piece, features), path)


def as_saved(folder: Path, table: pa.Table, features: dict[str, Any] | None = LABELS, **state: Any) -> None:
    """Write a dataset as `save_to_disk` does."""
    folder.mkdir(parents=True)
    table = described(table, features)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    listed = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None, **state}
    (folder / "state.json").write_text(json.dumps(listed))
    (folder / "dataset_info.json").write_text("{}")


def test_parquet_files_are_joined_by_the_split_that_their_names_say(tmp_path: Path) -> None:
    as_parquet(tmp_path / "data", train=rows(), test=rows(4, first=50), validation=rows(2))
    data = of(tmp_path)
    assert data.x_train[:, 0].tolist() == list(range(10))
    assert data.x_test[:, 0].tolist() == [50, 51, 52, 53]
    assert data.preparation.class_names == ("no", "yes")
    assert "validation, which is not used" in data.doubts[0]
    assert "has test samples of its own" in refused(tmp_path, test_fraction=0.5)


def test_a_folder_may_be_called_as_a_table_is(tmp_path: Path) -> None:
    as_parquet(tmp_path / "data.parquet", train=rows())
    assert len(of(tmp_path, source="data.parquet").y_train) == 8


def test_without_a_split_of_test_samples_some_are_drawn(tmp_path: Path) -> None:
    as_parquet(tmp_path / "data", None, all=rows())
    data = of(tmp_path, target="label", test_fraction=0.4)
    assert (len(data.y_train), np.bincount(data.y_test).tolist()) == (6, [2, 2])
    assert data.preparation.class_names == ()


@pytest.mark.parametrize("source", ["parquet", "saved"])
def test_encoded_pictures_in_tables_are_pictures(tmp_path: Path, source: str) -> None:
    if source == "parquet":
        as_parquet(tmp_path / "data", train=pictures())
    else:
        as_saved(tmp_path / "data", pictures())
    data = of(tmp_path, **OWN)
    assert (data.input_shape, len(data.y_train), len(data.y_test)) == ((3, 4, 6), 8, 2)
    assert [red // 20 % 2 for red in reds(data.x_train)] == data.y_train.tolist()
    assert 'class_names = ["no", "yes"]' in data.doubts[-1]
    assert of(tmp_path, image_size=[2, 2], image_mode="L").input_shape == (1, 2, 2)
    data = of(tmp_path, class_names=["yes", "no"])
    assert [1 - red // 20 % 2 for red in reds(data.x_train)] == data.y_train.tolist()
    assert "standardise belongs to a table" in refused(tmp_path, standardise="own")


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    as_saved(tmp_path / "data" / "train", rows())
    as_saved(tmp_path / "data" / "test", rows(4, first=50))
    (tmp_path / "data" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data = of(tmp_path)
    assert (data.x_train[:, 0].tolist(), data.x_test[:, 0].tolist()) == (list(range(10)), [50, 51, 52, 53])
    assert "image_size belongs to images" in refused(tmp_path, image_size=[2, 2])


def test_what_save_to_disk_did_not_write_so_is_refused(tmp_path: Path) -> None:
    as_saved(tmp_path / "data", rows(), _indices_files=[{"filename": "x"}])
    assert "flatten_indices()" in refused(tmp_path)
    for content, word in [("{", "is not readable"), ("[]", "is not as"), ("{}", "no list of data files")]:
        (tmp_path / "data" / "state.json").write_text(content)
        assert word in refused(tmp_path)
    (tmp_path / "data" / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    assert "no list of data files" in refused(tmp_path)
    (tmp_path / "data" / "dataset_dict.json").write_text("{}")
    assert "no list of splits" in refused(tmp_path)
    (tmp_path / "data" / "dataset_dict.json").write_text('{"splits": []}')
    assert "there is no file of data in it" in refused(tmp_path)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (pa.table({"image": [None, {"bytes": b"x"}], "label": [0, 1]}), "no bytes of an image in row 1"),
        (pa.table({"image": [b"x", b"y"], "label": [0, 1]}), "row 1, is no readable image"),
        (pa.table({"image": [b"x", b"y"], "kind": [0, 1]}), r"no column 'label' \(columns: image, kind\)"),
        (pa.table({"image": [b"x", b"y"], "label": [0, None]}), "missing values"),
        (
            pa.table({"a": [1] * 4, "label": [0, 2, 2, 0]}),
            "'label' holds 2 in row 2; the source names 2 classes",
        ),
        (pa.table({"a": [1] * 4, "label": [0, -1, 0, 0]}), "'label' holds -1 at 1"),
    ],
)
def test_tables_of_pictures_that_are_none_are_one_sentence(
    tmp_path: Path, table: pa.Table, word: str
) -> None:
    as_saved(tmp_path / "data", table)
    with pytest.raises(DataError, match=word):
        of(tmp_path)


def test_files_with_different_columns_and_splits_without_train_are_refused(tmp_path: Path) -> None:
    as_parquet(tmp_path / "data", train=rows())
    pyarrow.parquet.write_table(pa.table({"b": [1]}), tmp_path / "data" / "train-9.parquet")
    assert "the files have different columns" in refused(tmp_path)
    as_parquet(tmp_path / "tested", test=rows())
    assert "no split called train, only test" in refused(tmp_path, source="tested")


def test_pictures_and_classes_that_are_left_out_are_told(tmp_path: Path) -> None:
    folders(tmp_path / "data", classes=("dog", "cat"))
    colour(1).save(tmp_path / "data" / "loose.png")
    (tmp_path / "data" / "bird").mkdir()
    loose, empty = of(tmp_path).doubts
    assert "1 images lie in no sub-folder" in loose
    assert "no images in bird, so there is no such class" in empty
