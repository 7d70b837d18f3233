"""Python's collector does not run while many objects are made, and afterwards it does as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from initcore import Plan, PlanError, layout
from initcore.machine import collection_paused
from initcore.plan import builders as ic


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_within_a_pause_nothing_is_collected_and_after_it_everything_is() -> None:
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_first_of_several_pauses_is_the_only_one() -> None:
    with collection_paused():
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    layout(Plan({"w": ic.zeros((3,))}))
    assert not gc.isenabled()


def test_a_refused_plan_leaves_the_collector_on() -> None:
    with pytest.raises(PlanError):
        layout(Plan({"w": ic.uniform((3,), 2.0, 1.0)}))
    assert gc.isenabled()
