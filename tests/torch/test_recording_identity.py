"""Layers that compute the same buffers: a recording computes them once, and keeps one copy."""

from __future__ import annotations

from collections.abc import Callable

import initclient.torch as ict
import numpy as np
import pytest
import torch
from initclient.torch._record.building import build
from initclient.torch._trace import Evaluation, identity
from torch import nn

from tests.torch.recordings import CPU_AND_META, Holder

ROWS, COLUMNS = 1 << 16, 96


class Turning(nn.Module):
    """A layer with a table of rotary frequencies of its own, of 6 million numbers."""

    def __init__(self, base: float) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        steps = 1.0 / base ** (torch.arange(COLUMNS) / COLUMNS)
        self.register_buffer("table", torch.outer(torch.arange(ROWS), steps), persistent=False)


def layers(*bases: float) -> nn.Module:
    return nn.Sequential(*(Turning(base) for base in bases))


@CPU_AND_META
def test_equal_tables_of_layers_are_one_copy(device: str) -> None:
    recording = ict.record(layers, 1e4, 1e4, 5e5, device=device)
    first, second, third = (recording.values[f"{i}.table"] for i in range(3))
    assert first is second
    assert not torch.equal(first, third)
    model = ict.record(layers, 1e4, 1e4, 5e5).model
    ict.init_(model, recording, device="cpu")
    filled = [layer.table for layer in model]
    assert len({table.data_ptr() for table in filled}) == 3
    for table, base in zip(filled, (1e4, 1e4, 5e5), strict=True):
        assert torch.equal(table, Turning(base).table)


def test_thirty_tables_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    original = Evaluation._call

    def counted(self: Evaluation, call: object) -> torch.Tensor:
        made = original(self, call)  # type: ignore[arg-type]
        computed.append(made.numel())
        return made

    monkeypatch.setattr(Evaluation, "_call", counted)
    recording = ict.record(layers, *[1e4] * 30)
    assert len(recording.values) == 30
    assert computed.count(ROWS * COLUMNS) == 1


def identity_of(make: Callable[[], torch.Tensor], device: str) -> bytes:
    built = build(lambda: Holder(make), device)
    return identity(built.trace.read(built.model.weight))


def add_to_itself(of_a_copy: bool) -> torch.Tensor:
    x = torch.arange(4.0)
    return x.add_(torch.arange(4.0) if of_a_copy else x)


SAME: list[Callable[[], torch.Tensor]] = [
    lambda: torch.arange(4.0).exp(),
    lambda: torch.tensor([1.0, 2.0]) * 3,
    lambda: torch.arange(12.0).view(3, 4)[1:, ::2].clone(),
]
OTHERS: list[tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]] = [
    (lambda: torch.arange(4.0).exp(), lambda: torch.arange(4.0).log()),
    (lambda: torch.arange(4.0).exp(), lambda: torch.arange(4.0).double().exp()),
    (lambda: torch.tensor([1.0, 2.0]) * 3, lambda: torch.tensor([1.0, 2.5]) * 3),
    (lambda: torch.tensor([1.0, 2.0]) * 3, lambda: torch.tensor([1.0, 2.0]) * 4),
    (lambda: torch.tensor([0.0, 2.0]) * 3, lambda: torch.tensor([-0.0, 2.0]) * 3),
    (lambda: torch.ones(2, 2) * 0.0, lambda: torch.ones(2, 2) * -0.0),
    (
        lambda: torch.arange(4.0).view(2, 2).sum(0),
        lambda: torch.arange(4.0).view(2, 2).sum(1),
    ),
    (
        lambda: torch.arange(12.0).view(3, 4)[1:, ::2].clone(),
        lambda: torch.arange(12.0).view(3, 4)[:2, ::2].clone(),
    ),
    (
        lambda: torch.arange(6.0).view(2, 3).sort(descending=True)[0].clone(),
        lambda: torch.arange(6.0).view(2, 3).sort(descending=True)[1].float(),
    ),
    (lambda: torch.randn(4), lambda: torch.randn(4)),
]


@CPU_AND_META
@pytest.mark.parametrize("make", SAME)
def test_the_same_operations_over_the_same_data_are_one(
    make: Callable[[], torch.Tensor], device: str
) -> None:
    assert identity_of(make, device) == identity_of(make, device)


@CPU_AND_META
@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_other_operations_arguments_data_and_draws_are_not(
    one: Callable[[], torch.Tensor], other: Callable[[], torch.Tensor], device: str
) -> None:
    assert identity_of(one, device) != identity_of(other, device)


@CPU_AND_META
def test_a_tensor_added_to_itself_is_not_one_added_to_its_like(device: str) -> None:
    """They may differ: an operation in place can read what it has written."""
    assert identity_of(lambda: add_to_itself(True), device) != identity_of(
        lambda: add_to_itself(False), device
    )


@torch.library.custom_op("initserve_tests::noisy", mutates_args=())
def noisy(x: torch.Tensor) -> torch.Tensor:
    """An operation of another library that draws, and does not say so."""
    return x + torch.from_numpy(np.random.default_rng().random(tuple(x.shape), np.float32))


@noisy.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@CPU_AND_META
def test_an_operation_of_another_library_that_draws_is_refused(device: str) -> None:
    """Its calls have other values, in two layers and in the two runs of a recording."""
    assert "weight" in ict.record(Holder, lambda: noisy(torch.arange(6.0)), device=device).refused
    assert identity_of(lambda: noisy(torch.arange(6.0)), device) != identity_of(
        lambda: noisy(torch.arange(6.0)), device
    )
