"""A recording knows what a constructor changes on the way: statistics, data, lazy parameters."""

from __future__ import annotations

from typing import Literal

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from torch import nn

DEVICES: tuple[Literal["meta", "cpu"], ...] = ("meta", "cpu")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Literal["meta", "cpu"]:
    found: Literal["meta", "cpu"] = request.param
    return found


class CallsItsNorm(nn.Module):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.bn.train(training)
        self.bn(self.fc(torch.ones(5, 3)))


def test_running_statistics_after_a_forward_pass_are_refused(
    device: Literal["meta", "cpu"],
) -> None:
    """torch's schemas do not say that batch norm writes to them."""
    recording = ict.record(lambda: CallsItsNorm(True), device=device)
    with pytest.raises(ic.PlanError, match=r"bn\.running_mean.*a forward pass has changed"):
        recording.plan()
    assert {"bn.running_mean", "bn.running_var"} <= set(
        ict.record(lambda: CallsItsNorm(False), device=device).plan().tensors
    )


class Indexed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        w = torch.zeros(4, 3)
        w[[1, 2]] = 5
        w[[0, 3], [1, 1]] = 2.0
        w[np.array([3])] += 1
        w[:, range(0, 1)] = -1
        self.w = nn.Parameter(w)


def test_lists_and_arrays_are_indices(device: Literal["meta", "cpu"]) -> None:
    plan = ict.record(Indexed, device=device).plan()
    assert torch.equal(torch.from_numpy(ic.fetch(plan, target="local")["w"]), Indexed().w)


class CallsLazyLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(4)
        self.fc(torch.zeros(2, 3))


def test_lazy_layers_that_a_constructor_calls_are_those_of_their_shape(
    device: Literal["meta", "cpu"],
) -> None:
    plan = ict.record(CallsLazyLayers, device=device).plan(seed=3)
    expected = ict.record(lambda: nn.Linear(3, 4), device=device).plan(seed=3)
    assert plan["fc.weight"].shape == (4, 3)
    for name in ("weight", "bias"):
        one, other = plan[f"fc.{name}"], expected[name]
        assert (one.scheme, one.a, one.b) == (other.scheme, other.a, other.b)


class ChangesData(nn.Module):
    def __init__(self, by_torch: bool) -> None:
        super().__init__()
        data = np.arange(6, dtype=np.float32)
        tensor = torch.from_numpy(data)
        if by_torch:
            tensor += 1
        self.register_buffer("b", tensor)
        if not by_torch:
            data[0] = 7


def test_data_may_change_by_operations_of_torch_alone(device: Literal["meta", "cpu"]) -> None:
    plan = ict.record(lambda: ChangesData(True), device=device).plan()
    assert ic.fetch(plan, target="local")["b"].tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ic.PlanError, match="through their NumPy array"):
        ict.record(lambda: ChangesData(False), device=device).plan()


def test_memory_that_nothing_writes_is_refused_at_any_size() -> None:
    """Above 4 million elements no element is looked at by itself."""
    for rows in (4, 1 << 15):

        def make(rows: int = rows) -> nn.Module:
            model = nn.Linear(256, 2)
            model.gate = nn.Parameter(torch.empty(rows, 256))
            return model

        with pytest.raises(ic.PlanError, match=r"'gate'.*nothing has written it"):
            ict.record(make).plan()
