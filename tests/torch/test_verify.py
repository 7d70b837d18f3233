"""verify of torch models: on one process, and on several that a server helps or that fail.

That it agrees in every layout, and finds one bit in each, is among what tests/torch/ranks.py does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initserver import Server, ServerConfig
from torch import nn

from tests.torch.launching import run_ranks
from tests.torch.ranks import Net, plan_of
from tests.torch.verifying import SCENARIOS


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with Server(ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5)) as server:
        yield server.address


@pytest.fixture(params=["process", "server"])
def source(request: pytest.FixtureRequest, server: str) -> str:
    return "local" if request.param == "process" else server


def filled() -> tuple[Net, ic.Plan]:
    model = Net()
    plan = plan_of(model)
    ict.init_(model, plan, target="local")
    return model, plan


def test_a_model_agrees_however_it_is_handed_over(source: str) -> None:
    model, plan = filled()
    described = ic.describe(plan, target="local", fingerprints=True)
    expected = {tensor.name: tensor.fingerprint for tensor in described.tensors}
    for report in (
        ict.verify(model, plan, source),
        ic.verify(model, plan, target=source),
        ic.verify(model.state_dict(), plan, target=source),
        ict.verify(model, plan, source, local=True),
    ):
        assert report.agreed == tuple(plan.tensors)
        assert {name: str(value) for name, value in report.fingerprints.items()} == expected
    # What only the module knows is not compared.
    assert ict.verify(model, plan, source).left_out == ("scale",)


def test_one_flipped_bit_is_found_under_every_name_of_a_tied_weight(source: str) -> None:
    model, plan = filled()
    model.embed.weight.detach().view(torch.int32)[4, 5] ^= 1 << 31
    with pytest.raises(ic.VerificationError) as caught:
        ict.verify(model, plan, source)
    report = caught.value.report
    assert [one.name for one in report.mismatches] == ["embed.weight", "head.weight"]
    if source == "local":
        (part,) = report.mismatches[0].parts
        assert (part.rank, part.elements, part.first) == (None, 1, (4, 5))


def test_a_padding_row_that_is_not_zero_is_found() -> None:
    model, plan = filled()
    with torch.no_grad():
        model.embed.weight[2] = 1.0
    with pytest.raises(ic.VerificationError, match=r"6 of 66 elements differ, the first at \[2, 0"):
        ict.verify(model, plan, "local")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_element_type_and_any_strides_agree(dtype: torch.dtype) -> None:
    model = nn.Linear(5, 7).to(dtype)
    plan = ict.plan(model, seed=1)
    ict.init_(model, plan, target="local")
    assert ict.verify(model, plan, "local").ok
    columns = model.weight.detach().t().contiguous().t()
    assert not columns.is_contiguous()
    assert ict.verify({"weight": columns, "bias": model.bias}, plan, "local").ok


def test_strides_are_followed_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from initclient.torch._checking import collective as _verify

    plan = ic.Plan({"w": ic.normal((3, 20, 11))})
    values = torch.from_numpy(ic.fetch(plan, target="local")["w"])
    monkeypatch.setattr(_verify, "_STAGED", 7)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        back = [order.index(axis) for axis in range(3)]
        assert ict.verify({"w": values.permute(order).contiguous().permute(back)}, plan).ok


def test_a_part_of_a_model_has_to_be_said_to_be_one() -> None:
    model, plan = filled()
    more = ic.Plan({**plan.tensors, "extra": ic.zeros((2,))}, plan.seed)
    with pytest.raises(ic.VerificationError, match="extra: is in the plan and not there"):
        ict.verify(model, more, "local")
    report = ict.verify(model, more, "local", partial=True)
    assert report.left_out == ("scale", "extra")
    less = plan.select(name for name in plan.tensors if name != "up.bias")
    with pytest.raises(ic.VerificationError, match=r"up\.bias: is there and not in the plan"):
        ict.verify(model, less, "local")
    report = ict.verify(model, less, "local", ignore="up.*")
    assert set(report.left_out) == {"up.weight", "up.bias", "scale"}


def test_wrappers_and_slices_do_not_matter() -> None:
    model, plan = filled()
    assert ict.verify(nn.DataParallel(model), plan, "local").ok
    cut = plan.shard({"up.weight": slice(0, 2)})
    assert ict.verify(model, cut, "local").ok


def test_a_model_without_values_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    plan = ict.plan(model)
    with pytest.raises(ValueError, match="'weight' is on the meta device"):
        ict.verify(model, plan, "local")
    with pytest.raises(TypeError, match=r"is a torch\.Tensor and 'b' is a list"):
        ic.verify({"a": torch.zeros(1), "b": [0.0]}, plan, target="local")


def test_ranks_come_to_one_verdict_with_a_server_and_without(server: str, tmp_path: Path) -> None:
    rendezvous = tmp_path / "rendezvous"
    outputs = run_ranks("tests.torch.verifying", 2, rendezvous, VERIFY_TARGET=server)
    for rank, (status, text) in enumerate(outputs):
        assert status == 0, text
        for scenario in SCENARIOS:
            assert f"rank {rank}: {scenario.__name__} done" in text


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("place", [0, 7, 400, -1])
def test_a_flipped_bit_is_found_in_any_block_of_any_strides(
    order: tuple[int, ...], place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from initclient.torch._checking import collective as _verify

    plan = ic.Plan({"w": ic.normal((3, 20, 11))})
    values = torch.from_numpy(ic.fetch(plan, target="local")["w"])
    values.view(torch.int32).view(-1)[place] ^= 1
    monkeypatch.setattr(_verify, "_STAGED", 7)
    back = [order.index(axis) for axis in range(3)]
    held = values.permute(order).contiguous().permute(back)
    with pytest.raises(ic.VerificationError, match="1 of 660 elements differ"):
        ict.verify({"w": held}, plan, "local")


def test_every_rectangle_of_a_part_is_filled_and_compared() -> None:
    """As strided sharding leaves them; the other tests' layouts leave one to each rank."""
    from initclient.torch._layouts._rectangles import Shard

    plan = ic.Plan({"weight": ic.normal((8, 6))}, seed=3)
    whole = torch.from_numpy(ic.fetch(plan, target="local")["weight"])
    model, local = nn.Linear(6, 8, bias=False), torch.full((4, 5), torch.nan)
    runs = ([(0, 2), (4, 6)], [(0, 3), (4, 6)])

    class Strided(ict.Layout):
        def pieces(self) -> list[ict.Piece]:
            return Shard(local, runs).pieces()

    model.weight.initserve_layout = Strided  # type: ignore[assignment]
    ict.init_(model, plan, target="local")
    assert torch.equal(local, whole[[0, 1, 4, 5]][:, [0, 1, 2, 4, 5]])
    assert ict.verify(model, plan, "local", local=True).ok
    for place in ((0, 0), (0, 4), (3, 1), (3, 4)):
        local.view(torch.int32)[place] ^= 1
        with pytest.raises(ic.VerificationError, match=r"1 of .* elements differ"):
            ict.verify(model, plan, "local", local=True)
        local.view(torch.int32)[place] ^= 1
