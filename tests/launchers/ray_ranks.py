"""Ray's example as it is written, with checks after the train loop in each worker.

    python -m tests.launchers.ray_ranks PROGRAM

Run by tests/launchers/test_trainers.py. A worker writes a file of JSON, as in example_ranks.py.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch


def checked(loop: Callable[[], Any], folder: str) -> Callable[[], None]:
    """The train loop, and after it the checks of its model on all workers together."""

    def run() -> None:
        from tests.launchers.example_ranks import alone, found_in, small_net

        model, plan, losses = loop()
        found = found_in(model, plan)
        found["printed"] = losses
        found["built"] = [["ict.plan(model, seed=7)", plan.digest[:32]]]
        _, found["losses"] = alone({"plan": plan}, small_net)
        rank = ray.train.get_context().get_world_rank()
        (Path(folder) / f"rank{rank}.json").write_text(json.dumps(found))

    return run


class Checked(ray.train.torch.TorchTrainer):
    """The trainer of the example, which keeps its results in this folder."""

    def __init__(self, loop: Callable[[], Any], **given: Any) -> None:
        own = ray.train.RunConfig(storage_path=os.getcwd())
        super().__init__(checked(loop, os.getcwd()), run_config=own, **given)


def patient(start: Callable[..., Any]) -> Callable[..., Any]:
    """`ray.init`, three times at most: it waits 30 s for its own processes, whatever else runs."""

    def begin(**given: Any) -> Any:
        for _ in range(2):
            try:
                return start(**given)
            except Exception as error:  # Ray's own class is Exception
                if "timed out during startup" not in str(error):
                    raise
                ray.shutdown()
        return start(**given)

    return begin


if __name__ == "__main__":
    ray.init = patient(ray.init)
    ray.train.torch.TorchTrainer = Checked
    runpy.run_path(sys.argv[1], run_name="__main__")
