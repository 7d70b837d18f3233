"""Processes with their own number of JAX devices, which has to be set before JAX is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*commands: list[str], devices: int, folder: Path = ROOT, **variables: str) -> list[str]:
    """The output of processes that run at the same time and have to end well.

    Args:
        commands: for each process the arguments of Python.
        devices: host devices of each.
        folder: where they run.
        variables: of the environment.
    """
    environment = {
        **os.environ,
        **variables,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        texts = [process.communicate(180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text
    return texts
