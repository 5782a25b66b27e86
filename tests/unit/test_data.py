"""Data: the embedded digits, .npz archives, users' functions, and one sentence for everything wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import DataError, ExitCode
from gossip.learning.data import KEYS, load
from gossip.learning.settings import DataSettings
from tests.laws import tried


def arrays(**changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.random((12, 5), dtype=np.float32),
        "y_train": np.arange(12) % 3,
        "x_test": rng.random((6, 5), dtype=np.float32),
        "y_test": np.arange(6) % 3,
    }
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def saved(folder: Path, **changes) -> DataSettings:
    np.savez(folder / "data.npz", **arrays(**changes))
    return DataSettings(source="data.npz")


def test_digits_are_split_once_and_for_all():
    data = load(DataSettings(), seed=0, folder=Path())
    other = load(DataSettings(), seed=7, folder=Path("/"))
    assert data.x_train.shape == (1397, 1, 8, 8)
    assert data.x_test.shape == (400, 1, 8, 8)
    assert data.x_train.dtype is torch.float32
    assert data.y_train.dtype is torch.int64
    assert (float(data.x_train.min()), float(data.x_train.max())) == (0, 1)
    assert (data.classes, data.input_shape) == (10, (1, 8, 8))
    assert torch.equal(data.x_test, other.x_test)
    assert torch.equal(data.y_train, other.y_train)
    assert int(data.y_train.sum()) + int(data.y_test.sum()) == 8070  # of all 1797 digits
    assert len(data.y_test.unique()) == 10


def test_what_one_run_does_to_its_digits_no_other_run_sees():
    first, before = (load(DataSettings(), seed=0, folder=Path()) for _ in range(2))
    for name in ("x_train", "y_train", "x_test", "y_test"):
        getattr(first, name).zero_()
        assert torch.equal(getattr(load(DataSettings(), seed=0, folder=Path()), name), getattr(before, name))


def test_an_archive_is_read_as_it_is(tmp_path):
    data = load(saved(tmp_path), seed=0, folder=tmp_path)
    assert np.array_equal(data.x_test.numpy(), arrays()["x_test"])
    assert data.y_train.tolist() == list(arrays()["y_train"])
    assert (data.classes, data.input_shape) == (3, (5,))


def test_uint8_images_are_scaled_and_get_a_channel_axis(tmp_path):
    x_train = np.full((12, 4, 6), 255, dtype=np.uint8)
    x_test = np.zeros((6, 4, 6), dtype=np.uint8)
    data = load(saved(tmp_path, x_train=x_train, x_test=x_test), seed=0, folder=tmp_path)
    assert data.input_shape == (1, 4, 6)
    assert (float(data.x_train.min()), float(data.x_test.max())) == (1.0, 0.0)


@pytest.mark.parametrize(
    "x",
    [
        np.uint8([[1, 2, 255]]),
        np.int64([[1, 2, 255]]),
        np.int64([[2**24 + 1, 2, -3]]),
        np.int32([[[1, 2], [3, 4]]]),
        np.uint16([[2**16 - 1]]),
    ],
    ids=lambda x: str(x.dtype),
)
def test_whole_numbers_stay_what_they_are(tmp_path, x):
    x_train, x_test = np.repeat(x, 12, 0), np.repeat(x, 6, 0)
    data = load(saved(tmp_path, x_train=x_train, x_test=x_test), seed=0, folder=tmp_path)
    assert data.x_train.dtype is torch.int64
    assert data.x_train.tolist() == x_train.tolist()
    assert not str(data.preparation)


def test_what_layers_of_ours_take_are_real_numbers_that_lose_nothing(tmp_path):
    def of(value: int) -> torch.Tensor:
        x = np.full((12, 5), value)
        return load(saved(tmp_path, x_train=x, x_test=x[:6]), seed=0, folder=tmp_path).for_layers().x_train

    assert of(2**24).dtype is torch.float32
    assert of(-(2**24)).tolist() == np.full((12, 5), -(2.0**24)).tolist()
    for value in (2**24 + 1, -(2**24) - 1):
        with pytest.raises(DataError, match="whole numbers above 2\\^24"):
            of(value)


@pytest.mark.parametrize(
    ("shape", "scaling", "becomes", "largest", "told"),
    [
        ((4, 6), "auto", (1, 4, 6), 1.0, "divided by 255 and given an axis of channels"),
        ((3, 4, 6), "auto", (3, 4, 6), 1.0, "divided by 255"),
        ((4, 6), "none", (1, 4, 6), 255, "given an axis of channels"),
        ((24,), "unit", (24,), 1.0, "divided by 255"),
        ((24,), "auto", (24,), 255, ""),
        ((5, 4, 6), "auto", (5, 4, 6), 255, ""),
    ],
)
def test_bytes_are_scaled_as_is_said_and_what_was_done_is_told(
    tmp_path, shape, scaling, becomes, largest, told
):
    x = np.full((12, *shape), 255, dtype=np.uint8)
    settings = saved(tmp_path, x_train=x, x_test=x[:6]).model_copy(update={"scaling": scaling})
    data = load(settings, seed=0, folder=tmp_path)
    assert (data.input_shape, float(data.x_test.max())) == (becomes, largest)
    assert str(data.preparation) == told


def test_only_bytes_can_be_scaled_by_their_largest(tmp_path):
    with pytest.raises(DataError, match=r"'x_train' holds float32; .* scaling = \"unit\" is for bytes"):
        load(saved(tmp_path).model_copy(update={"scaling": "unit"}), seed=0, folder=tmp_path)


def test_training_and_test_samples_are_of_one_sort(tmp_path):
    with pytest.raises(DataError, match="'x_train' holds float32, but 'x_test' int64"):
        load(saved(tmp_path, x_test=np.ones((6, 5), dtype=np.int64)), seed=0, folder=tmp_path)


def test_points_in_time_keep_their_axes_and_planes_get_channels_for_layers_of_ours(tmp_path):
    series = np.zeros((12, 4, 6), dtype=np.float32)
    data = load(saved(tmp_path, x_train=series, x_test=series[:6]), seed=0, folder=tmp_path)
    assert data.input_shape == (4, 6)
    assert data.for_layers().input_shape == (1, 4, 6)
    assert str(data.for_layers().preparation) == "given an axis of channels"


COUNT = np.arange(12)


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"y_train": COUNT % 3 + 1, "y_test": np.arange(6) % 3 + 1}, r"1 … 3, and none is 0"),
        ({"y_train": np.ones(12), "y_test": np.arange(6) % 2}, "all training labels are 1"),
        (
            {"x_train": np.ones((12, 8, 8, 3)), "x_test": np.ones((6, 8, 8, 3))},
            r"\(8, 8, 3\) look like height",
        ),
        (
            {"x_train": np.ones((99, 5)), "y_train": 25.0 + 3 * np.arange(99), "y_test": np.full(6, 151.0)},
            "99 different values among 99, up to 319; they look like measurements",
        ),
    ],
)
def test_what_looks_like_a_mistake_is_told(tmp_path, changes, doubt):
    (said,) = load(saved(tmp_path, **changes), seed=0, folder=tmp_path).doubts
    assert re.search(doubt, said)
    assert said.startswith("data.npz: ")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"x_train": np.ones((80, 5)), "y_train": np.arange(80) % 40},  # two samples of forty classes
        {"x_train": np.ones((12, 3, 8, 8)), "x_test": np.ones((6, 3, 8, 8))},
        {"x_train": np.ones((12, 8, 8, 5)), "x_test": np.ones((6, 8, 8, 5))},
        {"y_train": COUNT % 2 + 1, "y_test": np.arange(6) % 3},
    ],
)
def test_what_looks_well_is_not_told_of(tmp_path, changes):
    assert load(saved(tmp_path, **changes), seed=0, folder=tmp_path).doubts == ()


def test_whole_numbers_as_floats_are_labels_too(tmp_path):
    data = load(saved(tmp_path, y_test=np.float64([0, 1, 2, 0, 1, 2])), seed=0, folder=tmp_path)
    assert data.y_test.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_number_of_classes_may_be_stated(tmp_path):
    settings = saved(tmp_path).model_copy(update={"classes": 9})
    assert load(settings, seed=0, folder=tmp_path).classes == 9
    with pytest.raises(DataError, match=r"largest class number is 2, but .* classes = 2"):
        load(settings.model_copy(update={"classes": 2}), seed=0, folder=tmp_path)


def test_maxima_draw_the_same_subset_for_one_seed(tmp_path):
    settings = saved(tmp_path).model_copy(update={"train_max": 5, "test_max": 100})
    subsets = [load(settings, seed=seed, folder=tmp_path) for seed in (1, 1, 2)]
    assert [len(data.y_train) for data in subsets] == [5, 5, 5]
    assert len(subsets[0].y_test) == 6
    assert torch.equal(subsets[0].x_train, subsets[1].x_train)
    assert not torch.equal(subsets[0].x_train, subsets[2].x_train)


NAN = np.where(np.arange(60).reshape(12, 5) == 17, np.nan, 1.0)


def rows(*parts: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row) for part in parts for row in part.flatten(1).tolist())


@given(st.floats(0.01, 0.99), st.integers(0, 5))
@tried(0.3)
def test_what_is_tested_on_instead_is_taken_from_the_training_samples_and_no_test_sample_is_left(share, seed):
    whole = load(DataSettings(), seed=seed, folder=Path())
    data = load(DataSettings(test_from_train=share), seed=seed, folder=Path())
    assert rows(data.x_train, data.x_test) == rows(whole.x_train)
    for label in range(10):
        kept, aside = (int((y == label).sum()) for y in (data.y_train, data.y_test))
        assert kept >= 1
        assert aside == min(round(share * (kept + aside)), kept + aside - 1)
    other = load(DataSettings(test_from_train=share), seed=seed + 1, folder=Path())
    assert torch.equal(
        data.x_test, load(DataSettings(test_from_train=share), seed=seed, folder=Path()).x_test
    )
    assert not torch.equal(data.x_test, other.x_test)


def test_what_is_set_aside_for_testing_has_the_labels_and_the_maxima_that_the_settings_say():
    digits = load(DataSettings(), seed=0, folder=Path())
    data = load(DataSettings(test_from_train=0.5, train_max=300, test_max=100), seed=0, folder=Path())
    assert (len(data.y_train), len(data.y_test)) == (300, 100)
    samples = (tuple(x) for x in digits.x_train.flatten(1).tolist())
    labels = dict(zip(samples, digits.y_train.tolist(), strict=True))
    assert len(labels) == 1397
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert [labels[tuple(row)] for row in x.flatten(1).tolist()] == y.tolist()
    assert not set(rows(data.x_train)) & set(rows(data.x_test))


def test_where_no_class_has_two_samples_none_can_be_set_aside(tmp_path):
    few = saved(tmp_path, x_train=np.eye(3, 5), y_train=np.arange(3)).model_copy(
        update={"test_from_train": 0.5}
    )
    with pytest.raises(
        DataError, match=r"test_from_train = 0.5: no class of data.npz has training samples enough"
    ):
        load(few, seed=0, folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, ["no array 'y_test'", "x_train, y_train, x_test"]),
        ({"x_train": np.array([{}] * 12, dtype=object)}, ["'x_train'", "Python objects"]),
        ({"x_train": np.array([["a"]] * 12)}, ["'x_train' holds <U1"]),
        ({"x_train": np.ones(12)}, ["'x_train' has shape (12,)", "(samples, features…)"]),
        ({"x_train": np.ones((0, 5))}, ["'x_train' is empty"]),
        ({"x_train": NAN}, ["'x_train' is not finite in sample 3"]),
        ({"x_train": np.full((12, 5), 1e200)}, ["'x_train' is not finite"]),
        ({"x_train": np.ones((11, 5))}, ["'x_train' has 11 samples but 'y_train' has 12 labels"]),
        ({"x_test": np.ones((6, 4))}, ["(5,) in 'x_train' but (4,) in 'x_test'"]),
        ({"y_train": np.arange(12) - 1}, ["'y_train' holds -1 at 0"]),
        ({"y_train": np.full(12, 2**40)}, ["'y_train' holds 1099511627776"]),
        ({"y_train": np.full(12, 0.5)}, ["'y_train' holds 0.5 at 0", "whole"]),
        ({"y_train": np.full(12, np.nan)}, ["'y_train' holds nan at 0"]),
        ({"y_train": np.ones((12, 1))}, ["'y_train' has shape (12, 1)"]),
        ({"y_test": np.zeros(0)}, ["'y_test' is empty"]),
        ({"y_test": np.array(["cat"] * 6)}, ["'y_test' holds <U3"]),
    ],
)
def test_unusable_arrays_are_refused_with_a_sentence_naming_file_and_key(tmp_path, changes, words):
    with pytest.raises(DataError) as caught:
        load(saved(tmp_path, **changes), seed=0, folder=tmp_path)
    assert caught.value.exit_code == ExitCode.DATA_UNUSABLE
    for word in ["data.npz", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "content", "word"),
    [
        ("none.npz", None, "there is no file"),
        ("bad.npz", b"nonsense", "not a readable .npz"),
        ("empty.npz", b"", "not a readable .npz"),
        ("cut.npz", "cut", "not a readable .npz"),
        ("single.npz", "single", "single array"),
        ("data.xlsx", b"1,2", "is unknown; valid: digits"),
        ("digit", None, "is unknown; valid: digits"),
    ],
)
def test_a_source_that_is_no_archive_is_refused_with_a_sentence(tmp_path, source, content, word):
    path = tmp_path / source
    if content == "cut":
        np.savez(path, **arrays())
        path.write_bytes(path.read_bytes()[:-40])
    elif content == "single":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(DataError, match=word):
        load(DataSettings(source=source), seed=0, folder=tmp_path)


def users(folder: Path, body: str) -> DataSettings:
    (folder / "mine.py").write_text("import numpy as np\n" + body)
    return DataSettings(source="python:mine.py:make", arguments={"n": 4})


GOOD = "def make(n):\n    x, y = np.random.rand(n, 2), np.arange(n) % 2\n    "


@pytest.mark.parametrize(
    "returned", ["return x, y, x, y", f"return dict(zip({json.dumps(KEYS)}, (x, y, x, y)))"]
)
def test_a_users_function_gives_arrays_and_all_peers_get_the_same_draws(tmp_path, returned):
    settings = users(tmp_path, GOOD + returned)
    state = np.random.get_state()[1].copy()
    first, again = (load(settings, seed=3, folder=tmp_path) for _ in range(2))
    assert first.x_train.shape == (4, 2)
    assert torch.equal(first.x_train, again.x_train)
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("def other(): pass", "has no function 'make'"),
        ("def make(n): return 1", "returned int"),
        ("def make(n): return {'x_train': 1}", "no 'y_train'"),
        ("def make(n): raise KeyError('lost\\nmore')", "the function fails: KeyError"),
        ("def make(): pass", "the function fails: TypeError"),
        ("import nowhere_to_be_found", "fails: ModuleNotFoundError"),
        ("raise SystemExit(3)", "fails: SystemExit"),
        ("def make(n: return", "fails: SyntaxError"),
        (GOOD + "return x, y[:-1], x, y", "4 samples but 'y_train' has 3"),
        (GOOD + "return [[1], [1, 2]], y, x, y", "not arrays|'x_train'"),
    ],
)
def test_a_users_function_that_fails_is_reported_with_a_sentence(tmp_path, body, word):
    with pytest.raises(DataError, match=word) as caught:
        load(users(tmp_path, body), seed=0, folder=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["python:absent.py:make", "python:make", "python:a.py:", "python:a.py:1x"])
def test_a_users_function_that_cannot_be_found_is_reported_with_a_sentence(tmp_path, source):
    with pytest.raises(DataError, match=r"no file|write python:FILE:FUNCTION"):
        load(DataSettings(source=source), seed=0, folder=tmp_path)


@pytest.mark.parametrize("setting", ["torch.set_default_dtype(torch.float64)\n", ""])
def test_code_that_changes_torchs_default_dtype_is_refused_and_undone(tmp_path, setting):
    inside = "" if setting else "torch.set_default_dtype(torch.float64); "
    settings = users(tmp_path, f"import torch\n{setting}{GOOD}{inside}return x, y, x, y")
    with pytest.raises(DataError, match="sets torch's default dtype to float64, and models are float32"):
        load(settings, seed=0, folder=tmp_path)
    assert torch.get_default_dtype() is torch.float32


def test_arguments_without_a_function_are_refused():
    with pytest.raises(DataError, match="arguments belong to a python: source"):
        load(DataSettings(arguments={"n": 1}), seed=0, folder=Path())
