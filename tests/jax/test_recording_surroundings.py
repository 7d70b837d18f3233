"""record: clocks, seeded generators of others and the machine are no constants without a word."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def recorded(make: Callable[[], Any]) -> icj.Recording:
    return icj.record(lambda: {"w": jnp.asarray(make())})


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: np.random.RandomState(3).normal(size=4), "numpy.random.RandomState(3)"),
        (lambda: np.random.default_rng(4).normal(size=4), "numpy.random.default_rng(4)"),
        (lambda: [random.Random(5).random()], "random.Random(5)"),
        (lambda: [float(os.cpu_count() or 1)], "os.cpu_count()"),
        (lambda: [float(len(os.environ["PATH"]))], "os.environ.get('PATH')"),
        (lambda: [float(jax.device_count())], "jax.device_count()"),
        (lambda: [float(jax.default_backend() == "cpu")], "jax.default_backend()"),
    ],
)
def test_such_values_are_in_the_plan_and_noted(make: Callable[[], Any], call: str) -> None:
    recording = recorded(make)
    (note,) = recording.notes
    assert note.startswith(f"the code calls {call} at ")
    assert "test_recording_surroundings.py:" in note
    values = ic.fetch(recording.plan(), target="local")["w"]
    assert (values == np.asarray(make(), dtype=np.float32)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: [float(int(time.time()) // 86400)],
        lambda: np.random.RandomState(int(time.time())).normal(size=3),
    ],
)
def test_what_follows_from_the_time_is_refused_however_coarse(make: Callable[[], Any]) -> None:
    with pytest.raises(ic.PlanError, match=r"'w'.*another run of the code gives it other values"):
        recorded(make).plan()


def test_other_initializations_have_no_note_and_the_process_is_as_before() -> None:
    before = time.time, np.random.RandomState, os.cpu_count
    assert recorded(lambda: jax.random.normal(jax.random.key(0), (4,))).notes == ()
    assert (time.time, np.random.RandomState, os.cpu_count) == before
