"""A recording has computed values in its plan, to the bit, each repeated value once."""

from __future__ import annotations

import math
from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from initclient._laws import folded
from initclient.torch._record.computed import kinds_of

from tests.torch.recordings import CPU_AND_META, Holder, planned


def sinusoids() -> torch.Tensor:
    angles = torch.arange(20)[:, None] * torch.exp(torch.arange(8) * -(math.log(1e4) / 8))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def relative_positions() -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    places = torch.stack([rows, columns]).flatten(1)
    apart = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0) + 3
    return (apart * torch.tensor([7, 1])).sum(-1)


COMPUTED = {
    "inverse frequencies": lambda: 1.0 / 10000 ** (torch.arange(0, 64, 2).float() / 64),
    "sinusoids": sinusoids,
    "relative positions": relative_positions,
    "a causal mask": lambda: torch.ones(12, 12, dtype=torch.bool).tril(),
    "bytes": lambda: torch.arange(200, dtype=torch.uint8),
    "steps": lambda: torch.linspace(0, 1, 30),
    "negative zeros": lambda: torch.tensor([0.0, -0.0, 3.0]) * 0.1,
    "half precision": lambda: torch.linspace(0, 1, 30, dtype=torch.bfloat16).exp(),
    "doubles": lambda: torch.linspace(0, 1, 30, dtype=torch.float64).exp(),
}


@CPU_AND_META
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_values_are_in_the_plan_to_the_bit(kind: str, device: str) -> None:
    wanted = COMPUTED[kind]()
    found, values = planned(COMPUTED[kind], device)
    assert found.scheme == "literal"
    assert values.tobytes() == wanted.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        # S4D's real initialization: log(1), log(2), ..., log(16) in each row.
        (lambda: torch.arange(1, 17.0).log().repeat(512, 1), 16),
        (lambda: torch.arange(1, 17.0).log()[None].expand(512, 16).contiguous(), 16),
        (lambda: torch.arange(512.0)[:, None].expand(512, 16).contiguous(), 512),
        # More than a plan may hold, but for what is repeated within an axis.
        (lambda: torch.arange(300.0).sqrt().repeat(400), 300),
        (lambda: torch.arange(300.0).sqrt().repeat_interleave(400), 300),
        (lambda: torch.arange(300).repeat(4, 2).repeat_interleave(100, 0), 600),
    ],
)
def test_repeated_values_are_in_the_plan_once(
    make: Callable[[], torch.Tensor], numbers: int
) -> None:
    found, values = planned(make)
    while found.parts:
        ((_, found),) = found.parts
    assert found.scheme == "literal"
    assert math.prod(found.shape) == numbers
    assert np.array_equal(values, make().numpy())


def test_values_beyond_the_limit_are_refused_with_their_line() -> None:
    recording = ict.record(Holder, lambda: torch.arange(65_537.0).sqrt())
    with pytest.raises(ic.PlanError) as caught:
        recording.plan()
    (violation,) = caught.value.violations
    assert violation.tensor == "weight"
    for text in ("sqrt(arange(", "test_recording_computed.py:", "65,537 numbers", "65,536"):
        assert text in violation.message
    assert torch.equal(recording.values["weight"], torch.arange(65_537.0).sqrt())
    found, values = planned(lambda: torch.arange(65_536.0).sqrt())
    assert found.scheme == "literal"
    assert np.array_equal(values, torch.arange(65_536.0).sqrt().numpy())


@given(
    part=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    columns=st.integers(1, 3),
    runs=st.integers(1, 3),
    tiles=st.integers(1, 3),
)
@settings(deadline=None)
def test_what_is_folded_unfolds_to_the_whole(
    part: list[int], columns: int, runs: int, tiles: int
) -> None:
    small = np.array(part[: len(part) // columns * columns] or [0], dtype=np.int64)
    small = small.reshape(-1, columns if small.size % columns == 0 else 1)
    whole = np.tile(np.repeat(small, runs, axis=0), (tiles, 1))
    for within_axes in (False, True):
        folding, found = folded(whole, within_axes=within_axes)
        assert found.shape == folding.part
        assert np.array_equal(np.broadcast_to(found, folding.whole).reshape(whole.shape), whole)


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=50), most=st.integers(1, 7))
@settings(deadline=None)
def test_kinds_are_the_different_values(values: list[int], most: int) -> None:
    for bits in (torch.tensor(values), torch.tensor(values).repeat_interleave(1 << 12)):
        found = kinds_of(bits, most)
        if len(set(values)) > most:
            assert found is None
            continue
        kinds, labels = found
        assert kinds.tolist() == sorted(set(values))
        assert torch.equal(kinds[labels], bits)
