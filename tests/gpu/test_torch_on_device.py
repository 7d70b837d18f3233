"""init_ on a GPU: values made in the parameters' own memory, with the bits of the host.

Skipped where torch or CuPy finds no CUDA device.
"""

from __future__ import annotations

import initclient as ic
import initclient.torch as ict
import pytest

torch = pytest.importorskip("torch")
cupy = pytest.importorskip("cupy", exc_type=ImportError)
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)
pytestmark = pytest.mark.gpu


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Made on the device: embed, up, conv. By way of the host: mix, and norm where it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(1001, 64, padding_idx=3)
        self.up = torch.nn.Linear(64, 4096)
        self.conv = torch.nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)
        self.mix = torch.nn.Linear(64, 64)
        self.norm = torch.nn.BatchNorm1d(64)


RULES = [ict.rule("mix.weight", ic.orthogonal)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["cupy", "numpy"])
def test_a_model_on_the_device_has_the_bits_of_the_host(backend: str, dtype: torch.dtype) -> None:
    with torch.device("meta"):
        model = Net().to(dtype)
    plan = ict.plan(model, RULES, seed=7)
    ict.init_(model, plan, target="local", device="cuda", backend=backend)
    here = ic.fetch(plan, target="local", framework="torch")
    for name, values in model.state_dict().items():
        assert values.is_cuda
        assert torch.equal(values.cpu(), here[name]), name


def test_values_are_made_where_they_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from initclient.torch import _filling

    staged: list[str] = []
    stage = _filling._by_way_of_the_host

    def noted(batch: list[_filling.Part], source: object) -> None:
        staged.extend(part.key for part in batch)
        stage(batch, source)  # type: ignore[arg-type]

    monkeypatch.setattr(_filling, "_by_way_of_the_host", noted)
    model = Net().cuda()
    ict.init_(model, ict.plan(model, RULES), target="local", backend="cupy")
    assert "mix.weight" in staged
    assert not {"embed.weight", "up.weight", "up.bias", "conv.weight"} & set(staged)
