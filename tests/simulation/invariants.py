"""The promises that every schedule checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import initclient as ic
import numpy as np
from initcore import PlanError

from tests.simulation.contents import PLANS, arrays_of, content_of, files_of, fingerprints_of
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.schedule import Round, Schedule

WHOLE = "a path holds a whole file"
RIGHT = "what is returned is right"
HEALTHY = "a healthy replica saves the fetch"
TIMEOUT = "the timeout holds"
ERRORS = "errors are of our own tree"
ONCE = "no byte is fetched twice"
NOTE = "a note of kept bytes is true"
LEFT = "success leaves no partial file"
LIES = "wrong values are not kept, and only their server is blamed"
HALF = "a failure leaves nothing half-done"

# Beyond the timeout: a watchdog's look and what the disk does.
_SLACK = 2.0

# Steps between the look at the partial files and the end of the process.
_LAST_STEPS = 30

_NOTED = re.compile(r"(\d+) of (\d+) bytes are kept in (.+?)(?: and \d+ more files)?\. ")
_UNCHECKED = re.compile(r"Up to \d+ of (\d+) bytes may be kept in (.+?)(?: and \d+ more files)?, ")


def noted(error: BaseException | None) -> tuple[int, int, str] | None:
    """What an error's note says: bytes kept, bytes in all, where."""
    for note in getattr(error, "__notes__", ()):
        if match := _NOTED.search(note):
            return int(match[1]), int(match[2]), match[3]
        if match := _UNCHECKED.search(note):
            return 0, int(match[1]), match[2]  # a promise of none of them
    return None


def check_memory(schedule: Schedule, kind: str, process: Process) -> None:
    """Checks the outcome of a process that writes no file."""
    world = schedule.world
    _check_end(schedule, process, 2 if kind == "twice" else 1)
    size = _size(schedule.plan)
    times = {"fetch": 1, "twice": 2, "describe": 0}[kind]
    if process.accepted > times * size:
        world.fail(ONCE, f"{process.accepted} bytes of {times} times {size} were taken")
    if process.error is not None:
        _check_error(schedule, process)
    elif kind == "describe":
        if [one.fingerprint for one in process.result.tensors] != fingerprints_of(schedule.plan):
            world.fail(RIGHT, "fingerprints differ")
    else:
        found = {name: _bytes(array) for name, array in process.result.items()}
        if found != arrays_of(schedule.plan):
            world.fail(RIGHT, "tensors differ")
        if process.accepted != times * size:
            world.fail(ONCE, f"{process.accepted} of {times} times {size} bytes were taken")


def check_path(schedule: Schedule) -> None:
    """Checks what is at the path, after each change of a name."""
    if schedule.sharded:
        names = [path for path in schedule.disk.names(".safetensors") if _is_final(path.name)]
    else:
        names = [schedule.path] if schedule.path.exists() else []
    for path in names:
        name = path.name if schedule.sharded else ""
        wholes = [files_of(plan, schedule.sharded).get(name) for plan in schedule.plans]
        data = path.read_bytes()
        if data not in wholes and data != schedule.old.get(name):
            schedule.world.fail(WHOLE, f"{path.name} has {len(data)} bytes of no plan")
            return
    if not names and schedule.old and not schedule.sharded:
        schedule.world.fail(WHOLE, "what was there before is gone")


def check_round(schedule: Schedule, one: Round, processes: list[Process]) -> None:
    """Checks the outcome of processes that write files."""
    world = schedule.world
    for process, plan in zip(processes, one.plans, strict=True):
        if not process.alive:
            continue
        files = files_of(plan, schedule.sharded)
        _check_end(schedule, process, 1)
        size = _size(plan)
        if not schedule.sharded and process.accepted > size:
            world.fail(ONCE, f"{process.accepted} of {size} bytes were taken")
        if process.error is not None:
            if one.calm or not isinstance(process.error, OSError):
                _check_error(schedule, process)
            if len(processes) == 1:
                _check_note(schedule, one, process)
            continue
        kept = schedule.kept if schedule.kept_plan == plan and one.resume else 0
        if one.calm and not schedule.sharded and process.accepted > size - kept:
            world.fail(ONCE, f"{kept} bytes were kept, and {process.accepted} of {size} taken")
        alone = len(processes) == 1
        for name, data in files.items():
            path = schedule.path / name if name else schedule.path
            found = path.read_bytes() if path.exists() else None
            if found != data and (alone or (found is None and not schedule.sharded)):
                world.fail(RIGHT, f"{path.name} is not the file of the plan")
        left = [path.name for path in schedule.disk.names(".initserve.")]
        if schedule.disk.locks == "ignored":
            # A fetch beside a killed one may have removed the journal that names its moved file.
            left = [name for name in left if name[0] != "."]
        same = len(schedule.plans) == 1 and one.resume and schedule.untouched
        if one.calm and left and same:
            world.fail(LEFT, f"{', '.join(left)} are left")


def _check_end(schedule: Schedule, process: Process, calls: int) -> None:
    """Checks the time."""
    world, timeout = schedule.world, schedule.timeout
    assert process.finished is not None
    took = process.finished - process.started
    if timeout is not None and took > calls * timeout + _SLACK:
        world.fail(TIMEOUT, f"{took:.1f} s with a timeout of {timeout:g} s")


def _check_error(schedule: Schedule, process: Process) -> None:
    error = process.error
    if _found_out(error):
        if not schedule.lies:
            schedule.world.fail(LIES, f"no server lied: {error}")
    elif schedule.healthy and schedule.timeout is None:
        schedule.world.fail(HEALTHY, f"{type(error).__name__}: {error}")
    if not isinstance(error, ic.InitserveError | PlanError):
        schedule.world.fail(ERRORS, f"{type(error).__name__}: {error}")


def _found_out(error: BaseException | None) -> bool:
    """Whether a spot check ended the fetch."""
    return isinstance(error, ic.IntegrityError) and "other values than the plan's" in str(error)


def _check_note(schedule: Schedule, one: Round, process: Process) -> None:
    found = noted(process.error)
    # A fetch that does not resume leaves the files of killed ones alone.
    ours = schedule.was_empty or (one.resume and schedule.disk.locks == "real")
    if _found_out(process.error) and schedule.untouched and ours:
        left = [path.name for path in schedule.disk.names(".initserve.")]
        if found or left:
            schedule.world.fail(LIES, f"{', '.join(left)} are kept after {process.error}")
    if found is None:
        left = [path.name for path in schedule.disk.names(".part", ".journal")]
        if left and schedule.was_empty and not schedule.disturbed:
            schedule.world.fail(HALF, f"{', '.join(left)} are left after {process.error}")
        return
    # A file that someone removes during the last steps may be noted before.
    since = process.steps - schedule.disturbed.get(process, 0)
    if schedule.disturbed and since < _LAST_STEPS:
        return
    kept, _, where = found
    if kept and not Path(where).exists():
        schedule.world.fail(NOTE, f"{Path(where).name} is not there")


def _is_final(name: str) -> bool:
    return name.startswith("model") and name.endswith(".safetensors")


def _size(plan: int) -> int:
    from initcore.wire import to_proto

    return len(content_of(to_proto(PLANS[plan])).data)


def _bytes(array: Any) -> bytes:
    return np.asarray(array).tobytes()
