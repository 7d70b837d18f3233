"""What a process in the tests measures: its own memory, and what a server has sent."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from pathlib import Path


def sent(least: int = 0) -> int:
    """Bytes of files that the server at METRICS has sent; waits until there are as many."""
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(os.environ["METRICS"]) as answer:
            text = answer.read().decode()
        found = re.search(r"^initserver_sent_bytes_total (\S+)$", text, re.MULTILINE)
        count = int(float(found[1])) if found else 0
        if count >= least or time.monotonic() > deadline:
            return count
        time.sleep(0.02)


def memory(field: str) -> int:
    """VmRSS, the memory of this process, or VmHWM, the most it ever had; in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
