"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

VARIABLE = "INITSERVE_THREADS"
"""The environment variable that sets the number, in place of the system's answer."""

_MOST_DIGITS = 9

_CGROUPS = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """CPUs that this process may use, at least 1.

    INITSERVE_THREADS if it is set; else the smaller of the CPUs of the process's affinity and
    its cgroup's quota, rounded up: a container with half a CPU has 1, however many CPUs the
    machine has. The quota is read once a process; affinity may change at any time.

    Raises:
        ValueError: if INITSERVE_THREADS is no whole number of at least 1.
    """
    wanted = os.environ.get(VARIABLE, "").strip()
    if wanted:
        # Python refuses to read numbers of thousands of digits.
        if not wanted.isdecimal() or len(wanted) > _MOST_DIGITS or not int(wanted):
            text = "it must be a whole number of at least 1, or unset for all CPUs"
            raise ValueError(f"{VARIABLE} is {wanted[:100]!r}; {text}")
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    quota = _own_quota()
    return found if quota is None else max(1, min(found, math.ceil(quota)))


@lru_cache(maxsize=1)
def _own_quota() -> float | None:
    try:
        membership = Path("/proc/self/cgroup").read_text()
    except OSError:
        return None
    return cgroup_quota(membership, _CGROUPS)


def cgroup_quota(membership: str, root: Path) -> float | None:
    """The CPUs that a process's cgroup and all above it allow; None for no limit.

    Args:
        membership: what /proc/self/cgroup holds: lines of ID:CONTROLLERS:PATH, where version 2
            has ID 0 and no controllers (cgroups(7)).
        root: where cgroups are mounted.
    """
    quotas = []
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            quotas += [_quota_v2(folder) for folder in _lineage(root, path)]
        elif "cpu" in controllers.split(","):
            for mount in (root / controllers, root / "cpu"):
                quotas += [_quota_v1(folder) for folder in _lineage(mount, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _lineage(mount: Path, path: str) -> list[Path]:
    """A cgroup's folder and those above it; inside a container its own may be the mount itself."""
    inner = mount / path.lstrip("/")
    return [inner, *inner.parents][: len(inner.parts) - len(mount.parts) + 1]


def _quota_v2(folder: Path) -> float | None:
    # "200000 100000", or "max 100000" for no limit.
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_v1(folder: Path) -> float | None:
    # -1 is no limit.
    return _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period) or None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
