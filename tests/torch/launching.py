"""Ranks as processes: a module of the tests, run once for each of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]


def run_ranks(module: str, world: int, rendezvous: Path, **variables: str) -> list[tuple[int, str]]:
    """Exit status and output of each rank.

    Args:
        module: what runs in each of them; it calls `joined`.
        world: how many.
        rendezvous: a file that does not exist.
        variables: of the environment.
    """
    environment = {
        **os.environ,
        **variables,
        "WORLD_SIZE": str(world),
        "RENDEZVOUS": str(rendezvous),
        # gloo listens where the host's name points otherwise.
        "GLOO_SOCKET_IFNAME": "lo",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        return [(rank.returncode, text) for rank in ranks for text in [rank.communicate(270)[0]]]
    finally:
        for rank in ranks:
            rank.kill()


@contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """This process's rank and the number of ranks, while the process group exists.

    The process ends with the body, if that ends well.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.FileStore(os.environ["RENDEZVOUS"], world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.set_num_threads(1)
    yield rank, world
    # No rank leaves while another one may still be talking to it.
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own end: on a busy machine torch's threads have been seen to
    # outlive what they work on, which ends a process that has done everything with SIGABRT.
    os._exit(0)
