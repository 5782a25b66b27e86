"""How often laws are tried is said in one place, and one number scales them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.laws import ORDINARY, examples, tried


@pytest.mark.parametrize(
    ("said", "counts"), [(None, [ORDINARY, 6, 100]), ("1000", [1000, 250, 4000]), ("1", [1, 1, 4])]
)
def test_one_number_scales_all_laws(
    monkeypatch: pytest.MonkeyPatch, said: str | None, counts: list[int]
) -> None:
    monkeypatch.delenv("LAWS", raising=False)
    if said is not None:
        monkeypatch.setenv("LAWS", said)
    assert [examples(times) for times in (1, 0.25, 4)] == counts
    assert tried(4, stateful_step_count=7).max_examples == counts[-1]


@pytest.mark.parametrize("said", ["0", "-1", "many", "", "2.5", "²"])
def test_what_is_no_such_number_is_one_sentence(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("LAWS", said)
    with pytest.raises(pytest.UsageError, match=rf"^LAWS={said}: must be a whole number from 1 on"):
        examples(1)


def test_no_law_has_a_number_of_its_own_that_would_not_scale() -> None:
    by_hand = "max_" + "examples="
    tests = Path(__file__).parents[1]
    places = [path.relative_to(tests) for path in tests.rglob("*.py") if by_hand in path.read_text("utf-8")]
    assert sorted(map(str, places)) == ["conftest.py", "laws.py"]
