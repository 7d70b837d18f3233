"""Caches of the recorded code, which a recording on the meta device would fill without a word."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn

from tests.torch.recordings import recording_error


@functools.lru_cache
def table(size: int) -> torch.Tensor:
    return torch.arange(size) * 0.375


@functools.lru_cache
def drawn(size: int) -> torch.Tensor:
    return torch.randn(size)


class Masked(nn.Module):
    masks: ClassVar[dict[int, torch.Tensor]] = {}

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.mask = Masked.masks.setdefault(size, torch.ones(size, size).tril())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = self.linear(x) @ self.mask
        return product


class Buffered(nn.Module):
    def __init__(self, make: Callable[[int], torch.Tensor]) -> None:
        super().__init__()
        self.register_buffer("b", make(4) + 1)
        self.w = nn.Parameter(torch.randn(3))


class Parametrized(nn.Module):
    def __init__(self, make: Callable[[int], torch.Tensor]) -> None:
        super().__init__()
        self.b = nn.Parameter(make(4))


@pytest.fixture(autouse=True)
def empty_caches() -> Iterator[None]:
    yield
    for one in (table, drawn):
        one.cache_clear()
    Masked.masks.clear()


def anew(make: Any, size: int) -> torch.Tensor:
    """What a cached function makes, of a cache that is cleared first."""
    make.cache_clear()
    found: torch.Tensor = make(size)
    return found


def line(text: str) -> str:
    """The file and the number of the first line of this file that has a text."""
    path = Path(__file__)
    lines = path.read_text().splitlines()
    return f"{path.name}:{next(n for n, one in enumerate(lines, 1) if text in one)}"


def refusal(recording: ict.Recording) -> str:
    with pytest.raises(ic.PlanError) as caught:
        recording.plan()
    (violation,) = caught.value.violations
    assert violation.tensor == "b"
    return violation.message


def test_a_cached_plain_attribute_has_a_note_with_the_line_that_made_it() -> None:
    (note,) = ict.record(Masked).notes
    assert "the code keeps a tensor that it made at " in note
    assert f"{line('torch.ones(size')} (Masked.__init__) for later calls (a cache)" in note
    assert "models that this process makes later have no values there" in note
    assert Masked().mask.is_meta


def test_attributes_within_containers_have_the_note_too() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.tables = {"sizes": [table(4), (table(5),)]}

    (note,) = ict.record(Layers).notes
    assert f"{line('torch.arange(size')} (table)" in note


def test_clearing_the_cache_after_recording_gives_later_models_their_values() -> None:
    ict.record(Masked)
    Masked.masks.clear()
    assert torch.equal(Masked().mask, torch.ones(4, 4).tril())


def test_calling_the_code_once_before_recording_leaves_nothing_to_note() -> None:
    Masked()
    assert ict.record(Masked).notes == ()
    assert torch.equal(Masked().mask, torch.ones(4, 4).tril())


def test_a_recording_on_the_cpu_leaves_values_in_the_cache() -> None:
    assert ict.record(Masked, device="cpu").notes == ()
    assert torch.equal(Masked().mask, torch.ones(4, 4).tril())


def test_a_buffer_from_a_cache_is_refused_with_the_line_and_the_way_out() -> None:
    recording = ict.record(Buffered, table)
    message = refusal(recording)
    assert "a tensor that the code made at " in message
    assert f"{line('torch.arange(size')} (table) in an earlier run and keeps" in message
    assert "clear that cache after recording; or clear it, and then call that code once" in message
    assert "do not come from torch's generator" not in message
    assert len(recording.notes) == 1


def test_each_way_out_that_the_refusal_names_gives_the_plan() -> None:
    refusal(ict.record(Buffered, table))
    expected = torch.arange(4) * 0.375 + 1
    table.cache_clear()
    table(4)
    for device in ("meta", "cpu"):
        plan = ict.record(Buffered, table, device=device).plan()
        assert torch.equal(torch.from_numpy(ic.fetch(plan, target="local")["b"]), expected)
        table.cache_clear()


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("model", [Buffered, Parametrized])
def test_a_cached_draw_is_refused_unless_the_recorded_code_clears_the_cache(
    model: Any, device: Any
) -> None:
    message = refusal(ict.record(model, drawn, device=device))
    assert f"{line('torch.randn(size')} (drawn) in an earlier run" in message
    assert "clear that cache at the start of the code that you record, and after" in message
    assert "meta device" not in message or device == "meta"
    recording = ict.record(model, functools.partial(anew, drawn), device=device)
    assert recording.plan()["b"].dtype == "F32"
    drawn.cache_clear()
    assert not drawn(4).is_meta


def test_a_second_recording_knows_what_the_first_one_left_in_a_cache() -> None:
    for make in (table, drawn):
        ict.record(Buffered, make)
        recording = ict.record(Buffered, make)
        message = refusal(recording)
        assert "a tensor that the code keeps" in message
        assert "in an earlier run and keeps for later calls (a cache)" in message
        assert "before the recording began" not in message
        assert len(recording.notes) == 1


def test_a_recording_that_needs_the_value_of_a_cached_tensor_says_that_it_is_kept() -> None:
    def build() -> nn.Module:
        return nn.Linear(2, 2 + int(table(4).sum() > 0))

    message = recording_error(build)
    assert f"{line('torch.arange(size')} (table) in an earlier run" in message
    assert "would depend on that draw" not in message


def test_what_a_method_leaves_in_its_own_model_is_no_cache() -> None:
    class Resets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reset()

        def reset(self) -> None:
            self.w = nn.Parameter(torch.randn(3))
            self.positions = torch.arange(4)
            self.register_buffer("b", torch.arange(3) * 2.0)

    with torch.device("meta"):
        model = Resets()
    recording = ict.record(model.reset)
    assert recording.notes == ()
    assert set(recording.plan().tensors) == {"w", "b"}
