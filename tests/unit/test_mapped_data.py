"""Laws of data that are read a mini-batch at a time: the same numbers as in memory, and never all of them at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import load_task
from gossip.errors import DataError
from gossip.inference.description import hash_of
from gossip.learner import Learner
from gossip.learning import batches, scales
from gossip.learning.data import arrays, load, rows
from gossip.learning.data.mapped import Mapped, pieces
from gossip.learning.mini_batches import mini_batches
from gossip.learning.settings import DataSettings, LocalSettings
from gossip.merging.settings import AverageSettings
from tests.mapped_sources import COUNT, IMAGES, NUMBERS, OWN, SOURCES, Y, function, task, trained, written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


@pytest.mark.parametrize("peers", [1, 3])
@pytest.mark.parametrize("source", SOURCES)
def test_mapped_samples_are_those_in_memory_and_so_is_what_is_learnt_of_them(
    source: str, peers: int, folder: Path
) -> None:
    one, other = (task(folder, **SOURCES[source](folder), mapped=mapped) for mapped in (True, False))
    assert isinstance(one.x_train, Mapped)
    assert isinstance(one.x_test, Mapped)
    assert isinstance(other.x_train, torch.Tensor)
    assert torch.equal(one.x_train[:], other.x_train)
    assert torch.equal(one.x_test[:], other.x_test[:])
    assert torch.equal(one.dataset.y_train, other.dataset.y_train)
    assert (one.dataset.preparation, one.dataset.input_shape) == (
        other.dataset.preparation,
        other.dataset.input_shape,
    )
    assert one.space.space_id == other.space.space_id
    mapped, loaded = (trained(each, peers=peers) for each in (one, other))
    assert torch.equal(mapped.model, loaded.model)
    assert (mapped.loss, mapped.samples) == (loaded.loss, loaded.samples)
    assert one.evaluate(mapped.model) == other.evaluate(loaded.model)
    if one.data_settings.validation_per_class:
        assert torch.equal(one.validation(0, peers).x, other.validation(0, peers).x)


@given(
    count=st.integers(1, 40),
    width=st.integers(1, 20),
    batch_size=st.integers(1, 50),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_mini_batches_are_in_the_same_order_and_of_the_same_values(
    count: int, width: int, batch_size: int, epochs: int, seed: int
) -> None:
    raw = np.random.default_rng(seed).normal(size=(count, width))
    x = torch.from_numpy(arrays.samples(raw, "it", "x", scaling="auto"))
    mapped = Mapped.of(rows.ArrayRows(raw), "it", "x", scaling="auto")
    y = torch.arange(count)
    settings = LocalSettings(batch_size=batch_size, epochs=epochs)
    one, other = (
        list(mini_batches(each, y, batches.epochs(count, settings, seed=seed, peer="a", round=0)))
        for each in (mapped, x)
    )
    assert [len(part) for _, part in one] == [len(part) for _, part in other]
    assert all(
        torch.equal(x1, x2) and torch.equal(y1, y2) for (x1, y1), (x2, y2) in zip(one, other, strict=True)
    )


@given(data=st.data(), count=st.integers(1, 30))
def test_what_is_asked_of_mapped_samples_comes_as_of_a_tensor(data: st.DataObject, count: int) -> None:
    x = torch.arange(2 * count, dtype=torch.float32).reshape(count, 2)
    mapped = Mapped.of(rows.ArrayRows(x.numpy()), "it", "x", scaling="auto")
    places = data.draw(st.lists(st.integers(-count, count - 1), min_size=1))
    start, stop = data.draw(st.tuples(st.integers(-count, count), st.integers(-count, count)))
    flags = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    for chosen in (places, torch.tensor(places), slice(start, stop), slice(None, None, 3), flags):
        assert torch.equal(mapped[chosen], x[chosen])
        again = mapped.part(chosen)
        assert torch.equal(again[:], x[chosen])
        assert again.shape == tuple(x[chosen].shape)
    assert len(mapped) == count
    size = data.draw(st.integers(1, 2 * count))
    assert all(map(torch.equal, pieces(mapped, size), torch.split(x, size)))
    with pytest.raises(IndexError):
        mapped[[count]]


# --- what is mapped ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("bytes_max", "is_mapped"), [(4 * 43 * 7, False), (4 * 43 * 7 - 1, True)])
def test_what_is_larger_as_float32_than_the_limit_is_mapped(
    bytes_max: int, is_mapped: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(folder / "limit.npz", x_train=NUMBERS[:43], y_train=Y[:43], x_test=NUMBERS[43:], y_test=Y[43:])
    monkeypatch.setattr(rows, "PREPARED_BYTES", bytes_max)
    dataset = load(DataSettings(source="limit.npz"), seed=0, folder=folder)
    assert isinstance(dataset.x_train, Mapped) == is_mapped
    assert isinstance(dataset.x_test, torch.Tensor)


@pytest.mark.parametrize("source", ["images.npz", "images"])
def test_files_are_mapped_and_not_read(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    real = rows.ArrayRows.__init__

    def watched(self: rows.ArrayRows, array: Any) -> None:
        taken.append(array)
        real(self, array)

    monkeypatch.setattr(rows.ArrayRows, "__init__", watched)
    load(DataSettings(source=source, mapped=True), seed=0, folder=folder)
    assert [type(array) for array in taken] == [np.memmap]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is resident")
@pytest.mark.parametrize("mode", ["r", "c"])
def test_what_was_read_of_a_mapped_file_does_not_stay_in_memory_unless_it_was_changed(
    mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "RELEASED_BYTES", 2**20)
    np.save(tmp_path / "large.npy", np.ones((4096, 4096), dtype=np.uint8))
    array = np.load(tmp_path / "large.npy", mmap_mode=mode)
    if mode == "c":
        array[0] = 7
    mapped = Mapped.of(rows.ArrayRows(array), "it", "x", scaling="none")
    total = 4096 * 4096 + (6 * 4096 if mode == "c" else 0)
    assert sum(int(piece.sum()) for piece in pieces(mapped, 64)) == total
    assert int(mapped[:].sum()) == total
    if mode == "r":
        told = Path("/proc/self/smaps").read_text().partition("large.npy")[2].partition("Rss:")[2]
        assert int(told.split()[0]) < 4096


def test_a_compressed_archive_is_refused_where_it_is_to_be_mapped_and_read_where_it_may(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"images-small\.npz: array 'x' is compressed.*np\.savez"):
        load(DataSettings(source="images-small.npz", mapped=True), seed=0, folder=folder)
    monkeypatch.setattr(rows, "PREPARED_BYTES", 1)
    read, mapped = (
        load(DataSettings(source=f"images{end}.npz"), seed=0, folder=folder) for end in ("-small", "")
    )
    assert torch.equal(read.x_train[:], mapped.x_train[:])


def broken(folder: Path, how: str) -> dict[str, Any]:
    match how:
        case "cut":
            whole = (folder / "images" / "x.npy").read_bytes()
            (folder / "images" / "x.npy").write_bytes(whole[:-1])
        case "no file":
            (folder / "images" / "y.npy").unlink()
        case "objects":
            np.save(folder / "images" / "x.npy", np.array([[{}]] * COUNT), allow_pickle=True)
        case "labels of objects":
            np.save(folder / "images" / "y.npy", np.array([{}] * COUNT), allow_pickle=True)
        case "empty":
            np.save(folder / "images" / "x.npy", np.zeros((0, 3)))
        case "digits":
            return {"source": "digits"}
        case "stream":
            return function("stream", folder)
    return {"source": "images"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", r"x\.npy is not a readable \.npy file"),
        ("no file", r"images has no y\.npy; it needs x\.npy, y\.npy"),
        ("objects", r"x\.npy is not a readable \.npy file: it holds Python objects"),
        ("labels of objects", r"y\.npy is not a readable \.npy file: it holds Python objects"),
        ("empty", r"images: 'x' is empty \(shape \(0, 3\)\)"),
        (
            "digits",
            r"\[data\] mapped belongs to a \.npz, a folder of \.npy or of images, or a python: source",
        ),
        ("stream", r"\[data\] mapped = true needs a dataset that gives items by number"),
    ],
)
def test_what_cannot_be_mapped_is_one_sentence(how: str, said: str, folder: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load(DataSettings(mapped=True, **broken(folder, how)), seed=0, folder=folder)
    assert "\n" not in str(caught.value)


def test_another_source_that_cannot_be_mapped_drops_the_wish(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('[data]\nsource = "images.npz"\nmapped = true\n')
    for source, mapped in (
        ("digits", "auto"),
        ("rows.csv", "auto"),
        ("pictures", True),
        ("python:a.py:b", True),
    ):
        settings = load_task(tmp_path / "task.toml", overrides=[f'data.source="{source}"'])
        assert settings.data.mapped == mapped


def test_where_samples_lie_is_nothing_that_peers_agree_on() -> None:
    assert DataSettings(mapped=True).agreed() == DataSettings().agreed()
    said = ('data.source="x.npz"', "data.partition.kind=iid")
    one, other = (load_task(overrides=[*said, f"data.mapped={word}"]) for word in ("true", "auto"))
    assert one.agreement() == other.agreement()


# --- how little is read ------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that are read of arrays, in their order."""
    numbers: list[int] = []
    real = rows.ArrayRows.take

    def counted(self: rows.ArrayRows, chosen: Any) -> Any:
        numbers.extend(chosen.tolist())
        return real(self, chosen)

    monkeypatch.setattr(rows.ArrayRows, "take", counted)
    return numbers


def test_before_and_beside_training_few_samples_are_read(tmp_path: Path, read: list[int]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (60_000, 4), dtype=np.uint8)
    np.savez(
        tmp_path / "x.npz", x_train=x, y_train=np.arange(60_000) % 2, x_test=x[:9], y_test=np.arange(9) % 2
    )
    learning = task(tmp_path, "x.npz", mapped=True, scaling="unit", local={"batch_size": 1000}, **OWN)
    learning.check()
    settings = AverageSettings()
    learner = Learner(learning, peer="a", position=0, peers=1, merge=settings.load()(settings))
    learner.evaluate(learner.initial())
    assert len(read) < 100
    assert learner.scales == scales.scales_of_task(learning)
    hash_of(learner.shard.x, learner.shard.y)
    assert len(read) < 10_000
    before = len(read)
    assert learner.train(learner.initial(), round=0).samples == 120_000
    assert sorted(read[before:]) == sorted([*range(60_000)] * 2)


def test_of_wide_samples_fewer_are_measured(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scales, "MAPPED_BYTES_MAX", 4 * 35 * 6)
    one = Mapped.of(rows.ArrayRows(IMAGES), "it", "x", scaling="auto")
    read.clear()
    scales.scales_of(one)
    assert 2 <= len(read) <= 6


def test_a_hash_of_mapped_samples_tells_other_samples_and_is_the_same_in_every_process(folder: Path) -> None:
    x = [
        Mapped.of(rows.ArrayRows(raw), "it", "x", scaling="auto")
        for raw in (NUMBERS, NUMBERS.copy(), NUMBERS + 1)
    ]
    assert hash_of(x[0]) == hash_of(x[1])
    assert len({hash_of(x[0]), hash_of(x[2]), hash_of(x[0].part([*range(COUNT - 1)]))}) == 3


def test_whole_numbers_are_looked_up_or_become_floats_and_large_ones_are_refused_when_read(
    folder: Path,
) -> None:
    whole = np.arange(COUNT * 2).reshape(COUNT, 2)
    np.savez(folder / "whole.npz", x=whole, y=Y)
    whole[40] = 2**24 + 1
    np.savez(folder / "larger.npz", x=whole, y=Y)
    own = task(folder, "whole.npz", mapped=True, model={"name": "python:mine.py:looking_up"})
    assert own.x_train.dtype is torch.int64
    ours = task(folder, "whole.npz", mapped=True)
    assert ours.x_train.dtype is torch.float32
    assert torch.equal(ours.x_train[:], own.x_train[:].float())
    with pytest.raises(DataError, match=r"whole numbers above 2\^24"):
        trained(task(folder, "larger.npz", mapped=True, test_fraction=0.05))


def test_an_extractor_sees_mapped_samples_as_they_are_read(folder: Path) -> None:
    model = {"extractor": "random-features", "features": 11}
    one, other = (task(folder, "images.npz", mapped=mapped, model=model) for mapped in (True, False))
    assert isinstance(one.x_train, Mapped)
    assert torch.allclose(one.x_train[:], other.x_train)
    assert torch.allclose(trained(one).model, trained(other).model, atol=1e-5)


def test_a_dataset_that_draws_gives_the_same_at_every_time_and_to_who_trains_only(folder: Path) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    learning = task(folder, mapped=True, **function("drawing", folder))
    assert torch.equal(learning.x_train[[1, 2]], learning.x_train[[2, 1]].flip(0))
    assert len(set(learning.x_train[:].flatten().tolist())) == learning.x_train[:].numel()
    assert torch.equal(trained(learning).model, trained(learning).model)
    again = task(folder, mapped=True, **function("drawing", folder))
    assert torch.equal(trained(again).model, trained(learning).model)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
