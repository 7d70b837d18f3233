"""On a machine with several GPUs each worker of a server has one of its own.

The devices are not there: tests/host_cuda.py stands for CuPy, says that there are two of them, and
runs the kernels on the host. Server, workers and sockets are real.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import initclient as ic
import numpy as np
import pytest

from tests import host_cuda

ROOT = Path(__file__).parents[2]

STAND_IN = """
import ctypes, os, pathlib, sys
from tests import host_cuda

class Noted(host_cuda.Device):
    count = 2
    def __enter__(self):
        seen = pathlib.Path(os.environ["TEST_SEEN"], str(os.getpid()))
        seen.write_text(str(self.id))
        return super().__enter__()

host_cuda.Device = Noted
host_cuda.build = lambda directory: ctypes.CDLL(os.environ["TEST_LIBRARY"])
stand_in = host_cuda.Cupy(pathlib.Path())
stand_in.__spec__ = __spec__
sys.modules[__name__] = stand_in
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="workers need POSIX")
def test_workers_take_the_devices_in_turn_and_give_the_reference_bits(tmp_path: Path) -> None:
    host_cuda.build(tmp_path)
    seen, modules = tmp_path / "seen", tmp_path / "modules"
    seen.mkdir()
    modules.mkdir()
    (modules / "cupy.py").write_text(STAND_IN)
    search = [str(modules), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(search),
        "TEST_SEEN": str(seen),
        "TEST_LIBRARY": str(tmp_path / "libinitserve_host_cuda.so"),
    }
    command = [sys.executable, "-m", "initserver", "--listen", "127.0.0.1:0"]
    command += ["--backend", "cupy", "--workers", "2"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := re.search(r"listening at (\S+?),", line):
                break
        else:
            pytest.fail("".join(lines))
        plan = ic.Plan({"w": ic.normal((1000,))})
        made = ic.fetch(plan, target=found[1])
        expected = ic.fetch(plan, target="local", backend="numpy")
        np.testing.assert_array_equal(made["w"].view(np.uint32), expected["w"].view(np.uint32))
        # Two workers, and the one that stands by: it has the device of the first.
        deadline = time.monotonic() + 60
        while len(list(seen.iterdir())) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sorted(file.read_text() for file in seen.iterdir()) == ["0", "0", "1"]
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()
    assert server.returncode == 0
