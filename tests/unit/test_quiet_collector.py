"""While peers run, what is there already is not looked through for garbage; afterwards all is as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from scenarios.virtual.engine import quiet_collector


@pytest.fixture(params=[False, True], ids=["nothing put aside", "put aside by the caller"])
def aside(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many objects a caller has put aside."""
    gc.unfreeze()
    if request.param:
        gc.freeze()
    yield gc.get_freeze_count()
    gc.freeze()


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_puts_all_aside_and_only_what_it_has_put_aside_itself_is_looked_through_again(
    aside: int, fails: bool
) -> None:
    thresholds = gc.get_threshold()
    try:
        with quiet_collector():
            assert gc.get_freeze_count() > 10_000
            assert gc.get_threshold()[0] > thresholds[0]
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        assert fails
    # One that is freed meanwhile counts no more.
    assert gc.get_freeze_count() == pytest.approx(aside, rel=0.01)
    assert gc.get_threshold() == thresholds
