"""Clocks, seeded generators of others and the machine are never constants without a word."""

from __future__ import annotations

import os
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from time import time as now  # a reference from before any recording
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from numpy.random import default_rng  # likewise
from torch import nn

from tests.torch.recordings import CPU_AND_META, Holder, refusal
from tests.torch.small_models import TRANSFORMERS

HERE = "test_recording_surroundings.py:"


def notes(make: Callable[[], Any], device: str = "meta") -> list[str]:
    """The notes of a recording whose parameter is made of numbers, each with this file in it."""
    recording = ict.record(Holder, lambda: torch.tensor(make()).float(), device=device)
    assert recording.plan()
    assert all(HERE in note for note in recording.notes)
    return [note.replace("the code calls ", "").partition(" at ")[0] for note in recording.notes]


@CPU_AND_META
@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: np.random.RandomState(3).normal(size=4), "numpy.random.RandomState(3)"),
        (lambda: np.random.default_rng(4).normal(size=4), "numpy.random.default_rng(4)"),
        (lambda: default_rng(seed=5).normal(size=4), "numpy.random.default_rng(5)"),
        (
            lambda: np.random.Generator(np.random.PCG64(6)).normal(size=4),
            "numpy.random.PCG64(6)",
        ),
        (lambda: [random.Random("seven").random()], "random.Random('seven')"),
    ],
)
def test_numbers_of_a_seeded_generator_are_in_the_plan_and_noted(
    make: Callable[[], Any], call: str, device: str
) -> None:
    assert notes(make, device) == [call]
    recording = ict.record(Holder, lambda: torch.tensor(make()).float(), device=device)
    assert "the same in every run" in recording.notes[0]
    one, other = (ic.fetch(recording.plan(seed), target="local")["weight"] for seed in (1, 2))
    assert (one == torch.tensor(make()).float().numpy()).all()
    assert (one == other).all()


def test_seeds_of_the_process_s_generators_are_noted() -> None:
    def make() -> torch.Tensor:
        np.random.seed(8)
        random.seed(9)
        return torch.tensor([np.random.rand(), random.random()])

    text = "\n".join(ict.record(Holder, make).notes)
    assert "numpy.random.seed(8) at " in text
    assert "random.seed(9) at " in text
    assert f"{HERE}{make.__code__.co_firstlineno + 1} (" in text


def seconds() -> float:
    return float(int(time.time()))


@CPU_AND_META
@pytest.mark.parametrize(
    "make",
    [
        # Two runs within a second, or a year, would otherwise have one value.
        lambda: [float(int(time.time()) // 86400)],
        lambda: [float(int(now()) // 86400)],
        lambda: [float(time.time_ns() // (86400 * 10**9))],
        lambda: [float(time.localtime().tm_year), float(time.gmtime().tm_year)],
        lambda: [float(int(time.monotonic())), seconds()],
        lambda: np.random.RandomState(int(time.time())).normal(size=3),
        lambda: [random.Random(int(time.perf_counter())).random()],
    ],
)
def test_what_follows_from_the_time_is_refused_however_coarse(
    make: Callable[[], Any], device: str
) -> None:
    message = refusal(lambda: torch.tensor(make()).float(), device)
    assert "differ between two runs" in message
    assert "depend on the time" in message


def test_code_that_measures_its_time_is_recorded_without_a_note() -> None:
    def make() -> torch.Tensor:
        begin = time.perf_counter()
        made = torch.zeros(3)
        assert 0 <= time.perf_counter() - begin < 3600
        assert time.time_ns() - time.time_ns() + 10**9 >= 0
        return made

    recording = ict.record(Holder, make)
    assert recording.notes == ()
    assert recording.plan()["weight"].scheme == "zeros"


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: [float(os.cpu_count() or 1)], "os.cpu_count()"),
        (lambda: [float(torch.cuda.is_available())], "torch.cuda.is_available()"),
        (lambda: [float(torch.cuda.device_count())], "torch.cuda.device_count()"),
        (lambda: [float(len(os.environ.get("PATH", "")))], "os.environ.get('PATH')"),
        (lambda: [float(len(os.environ["PATH"]))], "os.environ.get('PATH')"),
        (lambda: [float("PATH" in os.environ)], "os.environ.get('PATH')"),
        (lambda: [float(len(os.getenv("NO_SUCH_NAME", "1")))], "os.environ.get('NO_SUCH_NAME')"),
        (lambda: [float(hash("a") % 7)], "hash('a')"),
        (lambda: [float(torch.initial_seed() % 7)], "torch.initial_seed()"),
        # One run of many has the same value again.
        (lambda: [float(secrets.randbelow(1))], "secrets.randbelow()"),
        (lambda: [float(uuid.uuid4().version or 0)], "uuid.uuid4()"),
        (lambda: [float(len(os.urandom(4)))], "os.urandom()"),
        (lambda: [float(np.random.default_rng().integers(1))], "numpy.random.default_rng()"),
        (lambda: [float(random.Random().randrange(1))], "random.Random()"),
        (lambda: [float(random.SystemRandom().randrange(1))], "random.SystemRandom()"),
    ],
)
def test_calls_that_another_process_answers_otherwise_are_noted(
    make: Callable[[], Any], call: str
) -> None:
    assert notes(make) == [call]


def test_a_key_of_a_dictionary_is_no_value_of_the_model() -> None:
    class Key:
        def __hash__(self) -> int:
            return hash("key")

    assert notes(lambda: [{Key(): 1.0, "text": 2.0}["text"]]) == []


def test_each_line_is_noted_once_and_many_lines_are_counted() -> None:
    def make() -> torch.Tensor:
        for _ in range(5):
            os.cpu_count()
        os.cpu_count()
        os.cpu_count()
        os.cpu_count()
        return torch.zeros(1)

    (note,) = ict.record(Holder, make).notes
    assert note.count(HERE) == 3
    assert "and 1 more lines: its answer is that of this process or machine" in note


@pytest.mark.parametrize("build", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_models_of_transformers_have_no_such_note(build: Callable[[], nn.Module]) -> None:
    assert not [note for note in ict.record(build).notes if "the code calls" in note]


def test_of_installed_packages_only_files_of_the_model_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = "import numpy as np\ndef draw():\n    return np.random.RandomState({}).rand()\n"
    (tmp_path / "installed_tools.py").write_text(draw.format(11))
    (tmp_path / "installed_model.py").write_text(
        draw.format(12)
        + "import torch\nimport installed_tools\n"
        + "class Model(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n"
        + "        self.scale = torch.nn.Parameter(torch.full((2,), draw()))\n"
        + "        self.shift = torch.nn.Parameter(torch.full((2,), installed_tools.draw()))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("initclient._laws.surroundings.watch.PACKAGES", (str(tmp_path),))
    import installed_model  # type: ignore[import-not-found]

    (note,) = ict.record(installed_model.Model).notes
    assert "numpy.random.RandomState(12) at " in note
    del sys.modules["installed_model"], sys.modules["installed_tools"]


def replaced() -> list[Any]:
    return [
        *(time.time, time.time_ns, time.localtime, now, default_rng, hash, os.cpu_count),
        *(np.random.RandomState, np.random.default_rng, np.random.seed, random.seed),
        *(random.Random.__init__, type(os.environ).__getitem__, torch.cuda.is_available),
    ]


def test_the_process_s_own_functions_are_put_back_also_after_an_error() -> None:
    before = replaced()
    within: list[list[Any]] = []

    def build() -> nn.Module:
        within.append(replaced())
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        ict.record(build)
    assert not [one for one in before if any(one is other for other in within[0])]
    assert all(one is other for one, other in zip(before, replaced(), strict=True))


def test_other_threads_and_what_code_keeps_have_the_true_functions() -> None:
    kept: list[Any] = []
    times: list[float] = []

    def ask() -> None:
        times.append(time.time())
        random.Random(1)

    def build() -> nn.Module:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        kept.extend([time.time, np.random.RandomState, np.random.RandomState(1)])
        assert isinstance(kept[-1], np.random.RandomState)
        return nn.Linear(2, 2)

    before = time.time()
    recording = ict.record(build)
    assert all(before <= one <= time.time() for one in times)
    assert [note.partition(" at ")[0] for note in recording.notes] == [
        "the code calls numpy.random.RandomState(1)"
    ]
    clock, kind, generator = kept[:3]
    assert before <= clock() <= time.time()
    assert type(generator) is np.random.RandomState
    assert kind(2).randint(99) == np.random.RandomState(2).randint(99)
    assert isinstance(generator, kind)
    assert not isinstance(3, kind)

    class Own(kind):  # type: ignore[misc]
        pass

    assert isinstance(Own(3), Own)
    assert not isinstance(generator, Own)
    assert issubclass(Own, np.random.RandomState)
