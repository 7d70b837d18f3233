"""The CPUs that a process may use: its affinity, and what its cgroup leaves of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import initclient as ic
import pytest
from initclient.cli import main
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


@pytest.mark.parametrize("value", ["0", "-1", "abc", "2.5", "1e3", "²"])
def test_a_wrong_number_of_threads_is_refused_by_the_variables_name(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", value)
    text = f"INITSERVE_THREADS is {value!r}; it must be a whole number of at least 1"
    plan = ic.Plan({"w": ic.normal((3,))})
    calls: list[Callable[[], object]] = [
        available_cpus,
        lambda: ic.fetch(plan, target="local"),
        lambda: ic.fetch(plan, target="local", backend="native"),
        lambda: ic.fetch_file(plan, tmp_path / "w.safetensors", target="local"),
        ic.Local,
    ]
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(text)):
            call()
    assert list(tmp_path.iterdir()) == []
    ic.dump_plan(plan, tmp_path / "plan.yaml")
    assert main(["describe", str(tmp_path / "plan.yaml")]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize("value", ["", "  ", "1", " 2 ", "100"])
def test_blanks_and_numbers_of_threads_are_taken(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", value)
    assert available_cpus() == int(value) if value.strip() else available_cpus() >= 1
