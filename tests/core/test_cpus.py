"""The CPUs that a process may use: its affinity, and what its cgroup leaves of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from initcore.machine import cpus
from initcore.machine.cpus import available_cpus, cgroup_quota


def folder(root: Path, path: str, **files: str) -> None:
    place = root / path
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("limit", "quota"),
    [("50000 100000", 0.5), ("250000 100000", 2.5), ("max 100000", None), ("", None)],
)
def test_the_quota_of_a_cgroup_of_version_2(
    limit: str, quota: float | None, tmp_path: Path
) -> None:
    folder(tmp_path, "pod/container", cpu__max=limit)
    assert cgroup_quota("0::/pod/container\n", tmp_path) == quota


def test_a_cgroup_above_may_allow_less(tmp_path: Path) -> None:
    folder(tmp_path, "pod", cpu__max="150000 100000")
    folder(tmp_path, "pod/container", cpu__max="400000 100000")
    assert cgroup_quota("0::/pod/container\n", tmp_path) == 1.5


def test_a_container_sees_its_own_cgroup_as_the_root(tmp_path: Path) -> None:
    folder(tmp_path, ".", cpu__max="200000 100000")
    assert cgroup_quota("0::/\n", tmp_path) == 2.0
    # Without a cgroup namespace the path is the host's, which is not there.
    assert cgroup_quota("0::/kubepods/pod1/abc\n", tmp_path) == 2.0


@pytest.mark.parametrize(("limit", "quota"), [("50000", 0.5), ("-1", None)])
@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_the_quota_of_a_cgroup_of_version_1(
    mount: str, limit: str, quota: float | None, tmp_path: Path
) -> None:
    folder(tmp_path, f"{mount}/a", cpu__cfs_quota_us=limit, cpu__cfs_period_us="100000")
    membership = "5:memory:/a\n4:cpu,cpuacct:/a\n0::/\n"
    assert cgroup_quota(membership, tmp_path) == quota


@pytest.mark.parametrize("membership", ["", "nonsense", "0::/a", "4:cpu:/a"])
def test_no_limit_where_nothing_says_one(membership: str, tmp_path: Path) -> None:
    assert cgroup_quota(membership, tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "want"), [(0.5, 1), (1.0, 1), (1.5, 2), (1e9, None), (None, None)]
)
def test_the_count_is_the_smaller_of_affinity_and_quota(
    quota: float | None, want: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INITSERVE_THREADS", raising=False)
    monkeypatch.setattr(cpus, "_own_quota", lambda: quota)
    affinity = len(os.sched_getaffinity(0))
    assert available_cpus() == min(affinity, want or affinity)


def test_the_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "_own_quota", lambda: 0.5)
    monkeypatch.setenv("INITSERVE_THREADS", "7")
    assert available_cpus() == 7
