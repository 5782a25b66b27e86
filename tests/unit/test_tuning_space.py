"""Tuning: where trials are."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import scenario
from scenarios.tuning.methods import methods
from scenarios.tuning.sampling import suggest
from scenarios.tuning.space import Parameter, default_space
from tests.laws import tried

parameters = st.one_of(
    st.builds(
        lambda low, ratio: Parameter(key="a.x", low=low, high=low * ratio, log=True),
        st.floats(1e-5, 10),
        st.floats(1.5, 1000),
    ),
    st.builds(
        lambda low, more: Parameter(key="a.y", low=low, high=low + more, whole=True),
        st.integers(-5, 5),
        st.integers(1, 9),
    ),
    st.builds(
        lambda words: Parameter(key="a.z", choices=tuple(words)),
        st.lists(st.sampled_from(["true", "8", "16", "krum"]), min_size=2, max_size=4, unique=True),
    ),
)


@given(parameters, st.integers(0, 3), st.integers(1, 40))
@tried(0.4)
def test_a_suggestion_lies_in_the_space_and_hangs_on_the_trials_so_far_and_the_seed_alone(
    parameter, seed, number
):
    finished: list[tuple[dict[str, object], float]] = []
    for place in range(6):
        found = suggest([parameter], finished, seed=seed, method="m", number=number + place)
        assert found == suggest([parameter], finished, seed=seed, method="m", number=number + place)
        value = found[parameter.key]
        assert parameter.placed(runs_value(parameter, value)) == value
        assert parameter.rounded(value) == value
        if parameter.whole:
            assert isinstance(value, int)
        finished.append((found, float(place)))
    assert Parameter.from_table(json.loads(json.dumps(parameter.as_table()))) == parameter


def runs_value(parameter: Parameter, value: object) -> object:
    """Return what a setting would read."""
    return {"true": True, "8": 8, "16": 16}.get(value, value) if parameter.choices else value


def test_scores_draw_the_search_to_where_they_are_high():
    space = [Parameter(key="local.lr", low=1e-3, high=1.0, log=True)]
    finished: list[tuple[dict[str, object], float]] = []
    for number in range(25):
        found = suggest(space, finished, seed=0, method="m", number=number)
        finished.append((found, -abs(math.log10(found["local.lr"] / 0.05))))
    far = [-score for _, score in finished]
    assert sum(far[15:]) / 10 < 0.6 * sum(far[:5]) / 5


def test_what_is_searched_where_nobody_says_hangs_on_the_method():
    def keys(*overrides: str) -> dict[str, tuple[float, float]]:
        found = default_space(scenario.load("ring-dfedsam-mgs", overrides=overrides))
        return {parameter.key: (parameter.low, parameter.high) for parameter in found}

    assert keys() == {"local.lr": (0.001, 1), "local.sam_rho": (0.005, 0.5), "protocol.gossip_steps": (1, 8)}
    assert keys("local.sam=adaptive")["local.sam_rho"] == (0.05, 5)
    assert set(keys("local.sam_rho=0.0", "protocol.gossip_steps=1")) == {"local.lr"}
    assert set(keys("protocol.kind=modest")) == {"local.lr", "local.sam_rho"}


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("local.lr=0.01..1", {"low": 0.01, "high": 1.0, "log": True}),
        ("local.lr=0.01..1:linear", {"low": 0.01, "high": 1.0}),
        ("local.lr=0.2..1", {"low": 0.2, "high": 1.0}),
        ("local.lr=0.2..1:log", {"low": 0.2, "high": 1.0, "log": True}),
        ("local.momentum=0..0.9", {"low": 0.0, "high": 0.9}),
        ("protocol.gossip_steps=1..30", {"low": 1, "high": 30, "whole": True}),
        ("local.steps=1..9", {"low": 1, "high": 9, "whole": True}),
        ("local.batch_size=8, 16", {"choices": ("8", "16")}),
        ("merge.kind=average,median", {"choices": ("average", "median")}),
    ],
)
def test_a_space_is_bounds_or_choices(argument, wanted):
    (method,) = methods("ring-dfedsam-mgs", [], [], [argument])
    assert method.space == (Parameter(key=argument.partition("=")[0], **wanted),)
