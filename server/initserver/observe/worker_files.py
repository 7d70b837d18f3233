"""The files through which one worker passes its metrics: their room on the disk, and their end.

prometheus_client maps them into memory. A worker that writes to a page for which a full disk has
no room is killed (SIGBUS), so the room is taken before. The files of workers that have ended
are added up into one for each kind, so that a server whose workers crash for months has as many
files as one that has just started.
"""

from __future__ import annotations

import os
from contextlib import suppress

from initserver.values import Counter, Gauge, Histogram, declarations

# All series of a kind, with every method, code and scheme, take 31 KB.
_ROOM = 1 << 17


def reserve_files(folder: str) -> None:
    """Takes room for the metrics of this process, before it has any.

    Raises:
        OSError: if the disk has no room; nothing is left there.
    """
    paths = [_path(folder, kind, os.getpid()) for kind in _kinds()]
    try:
        for path in paths:
            _make(path, _ROOM)
    except OSError:
        for path in paths:
            with suppress(FileNotFoundError):
                os.unlink(path)
        raise


def fold_files(folder: str, pid: int) -> None:
    """Adds the counts of a process that has ended to those of all that have, and drops its files.

    No other thread may read the folder meanwhile. On a full disk the files of the process stay.
    """
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
    for kind in ("counter", "histogram"):
        # Whatever a process that was killed has left, the others go on.
        with suppress(OSError, RuntimeError, ValueError):
            _fold(_path(folder, kind, pid), _path(folder, kind, "ended"))


def _fold(source: str, sums: str) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    files = [path for path in (sums, source) if os.path.exists(path)]
    if source not in files:
        return
    counts: dict[str, float] = {}
    for path in files:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
            counts[key] = counts.get(key, 0.0) + value
    new = sums.removesuffix(".db") + ".new"
    try:
        # There is room for all series in each of them.
        _make(new, max(os.path.getsize(path) for path in files))
        written = MmapedDict(new)  # type: ignore[no-untyped-call]
        for key, value in counts.items():
            written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
        written.close()  # type: ignore[no-untyped-call]
        os.replace(new, sums)
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    os.unlink(source)


def _make(path: str, size: int) -> None:
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)


def _kinds() -> set[str]:
    """The beginnings of the names that prometheus_client gives to files."""
    names = {Counter: "counter", Histogram: "histogram"}
    return {
        f"gauge_live{one.workers}" if one.kind is Gauge else names[one.kind]
        for one in declarations()
    }


def _path(folder: str, kind: str, owner: int | str) -> str:
    return os.path.join(folder, f"{kind}_{owner}.db")
