"""Chance and values from elsewhere are refused or named, and never taken for constants."""

from __future__ import annotations

import contextlib
import io
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.init import trunc_normal_  # a reference from before any recording

from tests.torch.recordings import CPU_AND_META, Holder, recording_error, refusal


@CPU_AND_META
def test_values_from_numpy_or_random_are_not_taken_for_constants(device: str) -> None:
    assert "differ between two runs" in refusal(lambda: torch.tensor(np.random.rand(3)), device)
    message = refusal(lambda: torch.full((3,), random.random()), device)
    assert "differ between two runs" in message
    fresh = refusal(lambda: torch.from_numpy(np.random.default_rng().normal(size=4)), device)
    assert "differ between two runs" in fresh
    std = refusal(lambda: torch.empty(4).normal_(std=random.SystemRandom().random()), device)
    assert "differ between two runs" in std


def test_the_use_of_other_generators_is_noted() -> None:
    def build() -> nn.Module:
        random.random()
        np.random.rand()
        torch.manual_seed(3)
        return nn.Linear(2, 2)

    notes = "\n".join(ict.record(build).notes)
    assert "numpy.random" in notes
    assert "Python's random" in notes
    assert "seeds torch's generator" in notes
    assert ict.record(lambda: nn.Linear(2, 2)).notes == ()


def test_the_random_states_of_the_process_are_as_before() -> None:
    def build() -> nn.Module:
        random.random()
        np.random.rand()
        return nn.Linear(2, 2)

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    ict.record(build, device="cpu")
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_a_value_that_depends_on_the_time_is_refused() -> None:
    message = refusal(lambda: torch.full((3,), float(time.perf_counter_ns() % 1000003)))
    assert "depend on the time" in message


@CPU_AND_META
def test_a_generator_of_the_model_s_own_is_refused(device: str) -> None:
    def make() -> torch.Tensor:
        own = torch.Generator().manual_seed(1)
        return torch.empty(4).normal_(generator=own)

    assert "torch.Generator of the model's own" in refusal(make, device)

    def truncated() -> torch.Tensor:
        return trunc_normal_(torch.empty(4), generator=torch.Generator().manual_seed(1))

    assert "torch.Generator of the model's own" in refusal(truncated, device)


@CPU_AND_META
def test_torch_s_own_generator_may_be_given_by_name(device: str) -> None:
    def make() -> torch.Tensor:
        made = torch.empty(4).normal_(generator=torch.default_generator)
        return torch.cat([made, trunc_normal_(torch.empty(4), generator=torch.default_generator)])

    parts = ict.record(Holder, make, device=device).plan()["weight"].parts or ()
    assert [part.scheme for _, part in parts] == ["normal", "trunc_normal"]


@CPU_AND_META
def test_memory_that_is_never_written_is_refused(device: str) -> None:
    assert "nothing has written it" in refusal(lambda: torch.empty(4), device)
    assert "nothing has written it" in refusal(lambda: torch.Tensor(4), device)

    def half() -> torch.Tensor:
        made = torch.empty(4)
        made[:2] = 0
        return made

    assert "nothing has written a part" in refusal(half, device)

    def half_drawn() -> torch.Tensor:
        made = torch.empty(4)
        made[:2].normal_()
        return made

    assert "never written" in refusal(half_drawn, device)


@CPU_AND_META
@pytest.mark.parametrize(
    "read",
    [
        lambda w: w[0].item(),
        lambda w: float(w.sum()),
        lambda w: bool((w > 0).any()),
        lambda w: w.tolist(),
        lambda w: w.numpy(),
        lambda w: np.asarray(w),
        lambda w: torch.equal(w, w + 1),
        lambda w: [1] if w.max() > 0 else [2],
        lambda w: int(w.abs().argmax()),
    ],
)
def test_the_value_of_a_draw_is_refused_with_its_line(
    read: Callable[[torch.Tensor], Any], device: str
) -> None:
    def build() -> nn.Module:
        drawn = torch.randn(4)
        read(drawn)
        return Holder(lambda: drawn)

    message = recording_error(build, device)
    assert "needs the value of a tensor at" in message
    assert "test_recording_chance.py:" in message
    assert "normal(mean=0, std=1)" in message


def test_a_refusal_that_the_model_s_code_catches_still_ends_the_recording() -> None:
    def build() -> nn.Module:
        with contextlib.suppress(Exception):
            float(torch.randn(()))
        return nn.Linear(2, 2)

    assert "needs the value" in recording_error(build)


@CPU_AND_META
def test_a_rejection_loop_is_refused(device: str) -> None:
    def make() -> torch.Tensor:
        drawn = torch.randn(16)
        while (drawn.abs() > 2).any():
            drawn = torch.where(drawn.abs() > 2, torch.randn(16), drawn)
        return drawn

    assert "needs the value of a tensor" in recording_error(lambda: Holder(make), device)
    once = refusal(
        lambda: torch.where((x := torch.randn(16)).abs() > 2, torch.randn(16), x), device
    )
    assert "at random" in once or "no law" in once


def test_data_that_change_behind_torch_s_back_are_refused() -> None:
    def make() -> torch.Tensor:
        array = np.zeros(4)
        made = torch.from_numpy(array)
        array[:] = 1.0
        return made

    assert "changed afterwards through their NumPy array" in recording_error(lambda: Holder(make))


def test_a_write_through_numpy_is_an_error_on_meta_and_found_on_the_cpu() -> None:
    def make() -> torch.Tensor:
        made = torch.zeros(4)
        made.numpy()[:] = np.arange(4.0)
        return made

    with pytest.raises(ValueError, match="read-only") as caught:
        ict.record(Holder, make)
    assert "device='cpu'" in caught.value.__notes__[0]
    assert "tensor.numpy()" in refusal(make, "cpu")


@CPU_AND_META
@pytest.mark.parametrize(
    "make",
    [
        lambda drawn: torch.tensor([drawn[0], 0.0]),
        lambda drawn: torch.tensor([[1.0, 2.0], [drawn[0], drawn[1]]]),
        lambda drawn: torch.as_tensor((drawn[0], 0.0)),
        lambda drawn: torch.tensor(data=[drawn[0]]),
        lambda drawn: torch.zeros(1).new_tensor([drawn[0]]),
    ],
)
def test_a_draw_in_a_list_of_numbers_is_refused_with_its_line(
    make: Callable[[torch.Tensor], torch.Tensor], device: str
) -> None:
    message = recording_error(lambda: Holder(lambda: make(torch.randn(2))), device)
    assert "of a list needs the value of a tensor at" in message
    assert "test_recording_chance.py:" in message


@CPU_AND_META
def test_a_tensor_without_draws_in_a_list_of_numbers_has_its_values(device: str) -> None:
    def make() -> torch.Tensor:
        return torch.tensor([torch.arange(3.0).sum(), [5.0, torch.tensor(2)][1], 1.0])

    plan = ict.record(Holder, make, device=device).plan()
    assert ic.fetch(plan, target="local")["weight"].tolist() == [3, 2, 1]


def through_a_file() -> nn.Module:
    """A layer with the values of another one, which pass through bytes."""
    torch.manual_seed(0)
    file = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), file)
    file.seek(0)
    layer = nn.Linear(2, 2)
    layer.load_state_dict(torch.load(file))
    return layer


@pytest.mark.parametrize(
    "build",
    [
        through_a_file,
        lambda: Holder(lambda: torch.Tensor([torch.manual_seed(3) and torch.randn(2)[0]])),
    ],
)
def test_the_value_of_a_draw_is_no_constant_although_the_code_seeds_torch(
    build: Callable[[], nn.Module],
) -> None:
    """With memory the values are there, and the same in each run of such code."""
    with pytest.raises(ic.PlanError, match=r"'weight'.*differ between two runs"):
        ict.record(build, device="cpu").plan()


THREADS = {
    "draws": lambda weight: weight.data.normal_(),
    "constants": lambda weight: weight.data.fill_(3),
    # These do nothing on the meta device.
    "trunc_normal_": lambda weight: trunc_normal_(weight),
    "orthogonal_": lambda weight: nn.init.orthogonal_(weight.view(2, 2)),
}


def changed_by_a_thread(change: Callable[[torch.Tensor], Any]) -> nn.Module:
    model = Holder(lambda: torch.zeros(4))
    with ThreadPoolExecutor(1) as threads:
        threads.submit(change, model.weight.detach()).result()
    return model


@CPU_AND_META
@pytest.mark.parametrize("change", THREADS.values(), ids=THREADS)
def test_a_tensor_that_another_thread_changes_ends_the_recording(
    change: Callable[[torch.Tensor], Any], device: str
) -> None:
    message = recording_error(lambda: changed_by_a_thread(change), device)
    assert "another thread changes a tensor at" in message
    assert "test_recording_chance.py:" in message


def test_a_thread_that_works_on_tensors_of_its_own_is_no_matter() -> None:
    start = threading.Thread.start
    recording = ict.record(changed_by_a_thread, lambda weight: torch.zeros(3).normal_())
    assert recording.plan()["weight"].scheme == "zeros"
    assert threading.Thread.start is start
    # A tensor that it makes is none of the recording's.
    with ThreadPoolExecutor(1) as threads:
        made = ict.record(lambda: Holder(lambda: threads.submit(torch.ones, 3).result()))
    assert "by another thread" in made.refused["weight"]


def test_values_from_before_the_recording_are_refused() -> None:
    for device in ("meta", "cpu"):
        with torch.device(device):
            model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

        def half(model: nn.Sequential = model) -> nn.Module:
            model[0].reset_parameters()
            return model

        with pytest.raises(ic.PlanError) as caught:
            ict.record(half, device=device).plan()
        names = [violation.tensor for violation in caught.value.violations]
        assert names == ["1.weight", "1.bias"]
        assert "before the recording began" in str(caught.value)


def twice(between: Callable[[torch.Tensor], Any]) -> nn.Module:
    """Two layers, and a call with the generator's state before the first one in between."""
    state = torch.get_rng_state()
    first = nn.Linear(2, 2)
    between(state)
    return nn.Sequential(first, nn.Linear(2, 3))


def seeded_twice() -> nn.Module:
    """Two layers with one seed, which leave the generator as it was."""
    layers = []
    for size in (2, 3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers.append(nn.Linear(2, size))
    return nn.Sequential(*layers)


def test_draws_that_torch_repeats_are_noted() -> None:
    """Layers of one seed have the same numbers in torch, and other ones in the plan."""
    rewound = " ".join(ict.record(twice, torch.set_rng_state).notes)
    assert "repeats numbers of an earlier draw" in rewound
    assert "test_recording_chance.py:" in rewound
    forked = " ".join(ict.record(seeded_twice).notes)
    assert "seeds torch's generator" in forked
    assert "repeats numbers of an earlier draw" in forked
    assert ict.record(twice, lambda state: None).notes == ()
    assert ict.record(twice, lambda state: torch.rand(3)).notes == ()
    assert ict.record(twice, lambda state: None, device="cpu").notes == ()
    seeded = ict.record(twice, lambda state: torch.manual_seed(5)).notes
    assert seeded == ("the code seeds torch's generator; the plan's own seed decides instead",)
