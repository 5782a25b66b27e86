"""Where nobody lies, no rule costs more than three points, whether or not whoever merges has a model of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "reproduce" / "clean_matrix.py"


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clean_matrix", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


BEGIN_AT_OWN = ("centered-clipping", "self-centered-clipping", "cs-plus", "balance")


def test_rules_that_begin_at_the_own_model_learn_where_most_aggregators_have_none(matrix: ModuleType) -> None:
    """One aggregator of 40 peers seldom trained in the round that it merges: 4 of them did."""
    found = list(matrix.cells(["modest"], [*BEGIN_AT_OWN, "ubar"], rounds=25, seed=0, more={}))
    *others, ubar = found
    assert [cell for cell in others if cell.fell or cell.refusal] == []
    # It takes two of the four at most, so it is slower, and there after 40 rounds.
    assert ubar.accuracy > ubar.beside - 0.1


def test_what_cannot_be_is_a_sentence_in_the_table(matrix: ModuleType) -> None:
    rules = ["bucketing+geometric-median"]
    found = list(matrix.cells(["modest"], rules, rounds=1, seed=0, more={"scenario.peers": 8}))
    assert found[0].accuracy is None
    assert not found[0].fell
    assert "needs at least 5 models in a merge" in matrix.shown(found)
    assert "refused" in matrix.shown(found)


def test_every_rule_is_in_the_table(matrix: ModuleType) -> None:
    kinds = {matrix.MERGES.validate(_merge(matrix, rule)).kind for rule in matrix.RULES}
    assert kinds == {*matrix.MERGES.kinds(), *matrix.COMPOSED} - set(matrix.ALIASES)


def _merge(matrix: ModuleType, rule: str) -> dict[str, object]:
    values = matrix.settings_of(rule, rounds=9)
    return {key.removeprefix("merge."): value for key, value in values.items() if key.startswith("merge.")}
