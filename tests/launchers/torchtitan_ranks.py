"""One rank of torchtitan's debug model: its own initialization, the plan's, the example, verify.

    torchrun --nproc-per-node 2 -m tests.launchers.torchtitan_ranks --config llama3_on_cpu \\
        --parallelism.spmd_backend partial_dtensor --parallelism.tensor_parallel_degree 2

Run by tests/launchers/test_torchtitan.py. Every rank prints a hash of the weights that torchtitan
draws itself at seed 0, and of those of a plan, and writes a file of JSON with all that it found.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tests.launchers.torchtitan_on_cpu  # noqa: F401 - before all else of torchtitan

# isort: split
import initclient as ic
import initclient.torch as ict
import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.config import ConfigManager

from tests import digests
from tests.launchers.example_ranks import digest, found_in, share
from tests.launchers.gathering import gathered, made_by

EXAMPLE = Path(__file__).parents[2] / "examples" / "launchers" / "torchtitan_llama3.py"


def recorded(config: Any) -> ic.Plan:
    """The plan of a configuration's model, as torchtitan's `param_init` draws it."""

    def make() -> nn.Module:
        model = config.model_spec.model.build()
        model.init_weights()
        return model

    return ict.record(make).plan(seed=7)


@contextmanager
def logged() -> Iterator[list[float]]:
    """The losses that a trainer logs."""
    losses: list[float] = []
    log = MetricsProcessor.log

    def both(self: MetricsProcessor, step: int, loss: float, *given: Any, **named: Any) -> None:
        losses.append(loss)
        log(self, step, loss, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricsProcessor, "log", both)
        yield losses


def main() -> None:
    arguments = ["--module", "tests.launchers.torchtitan_on_cpu", "--debug.seed", "0"]
    sys.argv[1:] = arguments + sys.argv[1:]
    trainer = ConfigManager().parse_args().build()
    (model,) = trainer.model_parts
    plan = recorded(trainer.config)
    own = digest(gathered(model, plan))
    # Its state dict has the parts of fused projections instead, copied.
    parameters, reader = dict(model.named_parameters()), ict.PlanReader(plan, "local")
    read = made_by(lambda: dcp.load(parameters, storage_reader=reader))
    ict.verify(model, plan, "local")
    with logged() as losses:
        names, built = digests.run(EXAMPLE, *sys.argv[1:])
    (model,) = names["trainer"].model_parts
    found: dict[str, Any] = {"own": own, "read": read / share(model, plan), "losses": losses}
    found |= found_in(model, plan) | {"built": built}
    assert names["plan"].tensors == plan.tensors
    Path(f"rank{dist.get_rank()}.json").write_text(json.dumps(found))
    print(f"torchtitan {found['own'][:16]}, initserve {found['hash'][:16]}", flush=True)
    dist.barrier()


if __name__ == "__main__":
    main()
