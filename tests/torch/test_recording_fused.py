"""Weights that are put together from several draws, and seen in another shape or order of axes."""

from __future__ import annotations

from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn

from tests.torch.recordings import CPU_AND_META, Holder

HEADS, GROUPS, SIZE, WIDTH = 8, 4, 6, 48


def heads(stds: tuple[float, float, float] = (1.0, 100.0, 1e4)) -> torch.Tensor:
    """A fused weight: for each group of heads the rows of its queries, its key and its value."""
    query, key, value = (
        std * torch.randn(count * SIZE, WIDTH)
        for std, count in zip(stds, (HEADS, GROUPS, GROUPS), strict=True)
    )
    parts = [query.view(GROUPS, HEADS // GROUPS, SIZE, WIDTH)]
    parts += [one.view(GROUPS, 1, SIZE, WIDTH) for one in (key, value)]
    return torch.cat(parts, dim=1).view(-1, WIDTH)


def written() -> torch.Tensor:
    """The same, written into memory that is there, as torchtitan does."""
    with torch.no_grad():
        return torch.empty(len(heads()), WIDTH).copy_(heads())


def reshaped() -> torch.Tensor:
    return (
        torch.cat([torch.randn(4, 2, 64), 100 * torch.randn(4, 1, 64)], 1)
        .transpose(1, 2)
        .reshape(4, -1)
    )


def turned() -> torch.Tensor:
    return torch.cat([torch.randn(32, 16), 100 * torch.randn(32, 32)], 1).t().clone()


def whole_in_part() -> torch.Tensor:
    """Two axes of one rectangle of a larger weight, joined."""
    weight = torch.zeros(24, 64)
    with torch.no_grad():
        weight[4:12].view(4, 2, 64).copy_(
            torch.cat([torch.randn(4, 1, 64), 100 * torch.randn(4, 1, 64)], 1)
        )
    return weight


@CPU_AND_META
@pytest.mark.parametrize("make", [heads, written, reshaped, turned, whole_in_part])
def test_each_row_and_column_has_the_spread_of_the_model_s(
    make: Callable[[], torch.Tensor], device: str
) -> None:
    recording = ict.record(Holder, make, device=device)
    made = np.asarray(ic.fetch(recording.plan(seed=3), target="local")["weight"])
    torch.manual_seed(5)
    expected = make().detach().numpy()
    assert np.array_equal(made == 0, expected == 0)
    for axis in (0, 1):
        mine, theirs = (np.abs(one).mean(axis=axis) + 1e-9 for one in (made, expected))
        assert (mine / theirs).max() < 10
        assert (theirs / mine).max() < 10


@CPU_AND_META
def test_draws_of_one_law_that_are_put_together_are_one_tensor(device: str) -> None:
    plan = ict.record(Holder, lambda: heads((2.0, 2.0, 2.0)), device=device).plan()
    weight = plan["weight"]
    assert (weight.scheme, weight.std, weight.shape) == ("normal", 2.0, (96, WIDTH))


def test_a_weight_too_large_to_look_at_has_the_same_parts() -> None:
    """Above 4 million elements no element is looked at by itself."""

    def large(width: int) -> torch.Tensor:
        parts = [torch.randn(8, 2, 16, width), 100 * torch.randn(8, 1, 16, width)]
        return torch.cat(parts, dim=1).view(-1, width)

    small, big = (
        ict.record(Holder, lambda width=width: large(width))
        .explain("weight")
        .replace(str(width), "n")
        for width in (48, 16384)
    )
    assert small == big
    assert "normal(mean=0, std=100)" in small


@CPU_AND_META
def test_matrices_in_another_order_are_refused(device: str) -> None:
    def made() -> torch.Tensor:
        matrices = [nn.init.orthogonal_(torch.empty(4, 6)) for _ in range(2)]
        return torch.stack(matrices, 1).view(8, 6)

    with pytest.raises(ic.PlanError, match=r"weight.*test_recording_fused\.py"):
        ict.record(Holder, made, device=device).plan()
