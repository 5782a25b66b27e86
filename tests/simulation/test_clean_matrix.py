"""Where nobody lies, no rule costs more than three points, whether or not whoever merges has a model of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gossip.errors import SettingError
from gossip.merging.robust.settings import PRE_AGGREGATION_NAMES
from scenarios import scenario as scenario_files
from tests.robust_harness import SINGLE, first_names

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


OF_FACTORS = {"lora-fair", "product"}
"""Rules that merge what adapters have learned, and nothing else."""
BEGIN_AT_OWN = ("centered-clipping", "self-centered-clipping", "cs-plus", "balance")


def test_rules_that_begin_at_the_own_model_learn_where_most_aggregators_have_none(matrix: ModuleType) -> None:
    """One aggregator of 24 peers seldom trained in the round that it merges: 4 of them did."""
    more = {"scenario.peers": 24}
    found = list(matrix.cells(["modest"], [*BEGIN_AT_OWN, "ubar"], rounds=16, seeds=[0], more=more))
    *others, ubar = found
    assert [cell for cell in others if cell.fell or cell.refusal] == []
    # It takes two of the four at most, so it is slower, and there after 40 rounds.
    assert ubar.accuracy > ubar.beside - 0.1


def test_where_one_model_is_made_of_a_sample_no_rule_costs_three_points(matrix: ModuleType) -> None:
    """The table in short: twelve peers, longer local updates, fewer rounds. Krum alone would fall far behind."""
    rules = [rule for rule in first_names() if rule not in BEGIN_AT_OWN]
    more = {"scenario.peers": 12, "local.steps": 20}
    found = list(matrix.cells(["fedavg"], rules, rounds=8, seeds=[0], more=more))
    assert [cell for cell in found if cell.fell] == []
    assert [cell.rule for cell in found if cell.refusal] == [
        rule for rule in rules if rule in {"krum", *OF_FACTORS}
    ]
    assert found[0].beside > 0.8


def test_every_cell_begins_or_is_refused_in_a_sentence(matrix: ModuleType) -> None:
    refused = {}
    for protocol in matrix.PROTOCOLS:
        for rule in (*matrix.RULES, *matrix.compositions()):
            values = {
                "protocol.kind": protocol,
                **matrix.PROTOCOLS[protocol],
                **matrix.settings_of(rule, rounds=9),
            }
            try:
                scenario_files.load("modest", values=values).graphs()
            except SettingError as error:
                refused[protocol, rule] = str(error)
    five = {rule for rule in (*matrix.RULES, *matrix.compositions()) if rule.startswith("bucketing+")}
    one = {"krum", "clipping+krum", "arc+krum"}
    assert refused.keys() == {
        *((protocol, rule) for protocol in ("push", "modest", "fedavg") for rule in five | one),
        *((protocol, "krum, half of own") for protocol in ("modest", "fedavg")),
        *((protocol, rule) for protocol in matrix.PROTOCOLS for rule in OF_FACTORS),
    }
    for (protocol, rule), sentence in refused.items():
        if rule in OF_FACTORS:
            assert "[model.adapter]" in sentence
            continue
        if rule in one or rule == "krum, half of own":
            assert "takes one of the models of a merge" in sentence
            assert "multi-krum" in sentence
        else:
            assert "needs" in sentence, (protocol, sentence)


def test_what_cannot_be_is_a_sentence_in_the_table(matrix: ModuleType) -> None:
    rules = ["bucketing+geometric-median"]
    found = list(matrix.cells(["modest"], rules, rounds=1, seeds=[0], more={"scenario.peers": 8}))
    assert found[0].accuracy is None
    assert not found[0].fell
    assert "needs at least 5 models in a merge" in matrix.shown(found)
    assert "refused" in matrix.shown(found)


def test_every_rule_and_every_pre_aggregation_is_in_the_table(matrix: ModuleType) -> None:
    kinds = {str(merge["kind"]) for merge in matrix.RULES.values()}
    assert set(matrix.MERGES.kinds()) <= kinds
    assert {name for kind in kinds for name in kind.split("+")[:-1]} == set(PRE_AGGREGATION_NAMES)
    assert set(SINGLE) <= set(matrix.compositions())


def test_a_rule_that_there_is_not_is_no_cell(matrix: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        matrix.main(["--rules", "krumm"])
    assert ended.value.code == 2
    assert "unknown rule krumm; valid: average, balance" in capsys.readouterr().err
