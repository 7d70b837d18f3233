"""The example runs as it is written, and so does the code of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests import digests
from tests.jax.launching import ROOT, run
from tests.server.observers import watched_service


@pytest.mark.parametrize("served", [False, True], ids=["in process", "from a server"])
def test_eight_devices(served: bool, tmp_path: Path) -> None:
    command = ["-W", "error", str(ROOT / "examples" / "jax_eight_devices.py")]
    with watched_service() as (address, counts):
        (text,) = run([*command, *([address] if served else [])], devices=1, folder=tmp_path)
        assert (counts.made_bytes > 0) == served
    assert "8 devices hold what one process holds, bit for bit" in text
    assert list(tmp_path.iterdir()) == [], "an example leaves no files where it runs"


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 3, rngs=rngs)


class DroppingModel(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.dropout(self.linear(x))


PAGE = (ROOT / "docs" / "jax.md").read_text()


def test_the_code_of_the_page_runs_from_top_to_bottom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 12
    notes = digests.Notes()
    names: dict[str, Any] = {
        digests.NOTE: notes.note,
        "ic": ic,
        "jax": jax,
        "np": np,
        "nnx": nnx,
        "Mesh": Mesh,
        "NamedSharding": NamedSharding,
        "PartitionSpec": PartitionSpec,
        "Model": Model,
        "DroppingModel": DroppingModel,
        "model": linen.Dense(3),
        "batch": jnp.zeros((1, 4)),
        "TrainState": TrainState,
        "tx": optax.adam(1e-3),
        "folder": str(tmp_path),
    }
    for block in blocks:
        exec(notes.compile(block, "docs/jax.md"), names)
    digests.check("docs/jax.md", notes.found)
    (shown,) = re.findall(r"```text\n(.*?)\n    \.\.\.\n```", PAGE, re.DOTALL)
    lines = r"\.py:\d+"
    assert re.sub(lines, "", capsys.readouterr().out).startswith(re.sub(lines, "", shown))
    first = icj.init(names["sharded"], icj.plan(names["sharded"], seed=7))
    assert np.array_equal(first["params"]["kernel"], names["params"]["params"]["kernel"])
    assert names["net"](jnp.zeros((1, 4))).shape == (1, 3)
    assert names["plan"].tensors["params/kernel"].scheme == "variance_scaling"
