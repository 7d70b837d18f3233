"""Names: the functions that are replaced while a thread records, so that its calls are noted.

The replacement is global to the process and undone when the last recording ends, also after an
error. Other threads, and code that keeps a replaced function, go on to the function itself.
"""

from __future__ import annotations

import builtins
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

from initclient._laws.surroundings.watch import PACKAGES, STDLIB, Kind, Watch

# A module, and names in it. A module that is not there, or not imported yet, is left out.
_SEEDED = (
    ("numpy.random", ("seed", "default_rng", "RandomState")),
    ("numpy.random", ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")),
    ("random", ("seed",)),
)
_CHANCE = (
    ("os", ("urandom",)),
    ("secrets", ("token_bytes", "token_hex", "randbelow", "randbits", "choice")),
    ("uuid", ("uuid1", "uuid4")),
)
_MACHINE = (
    ("os", ("cpu_count", "process_cpu_count", "sched_getaffinity", "getpid")),
    ("socket", ("gethostname",)),
    ("torch", ("initial_seed", "get_num_threads")),
    ("torch.cuda", ("is_available", "device_count", "get_device_name", "get_device_properties")),
    ("torch.cuda", ("get_device_capability", "mem_get_info")),
    ("torch.backends.mps", ("is_available",)),
    ("torch.xpu", ("is_available", "device_count")),
    ("torch.accelerator", ("is_available", "device_count", "current_accelerator")),
    ("jax", ("devices", "local_devices", "device_count", "local_device_count", "default_backend")),
)
_now = time.time
_CLOCKS = ("time", "perf_counter", "monotonic", "process_time", "thread_time")

# Letters of an argument that a note shows.
_LONGEST = 40

_lock = threading.Lock()
_recording = threading.local()
_depth = 0
_undo: list[tuple[Any, str, Any]] = []


@contextmanager
def surroundings_watched(ahead: float = 0.0) -> Iterator[Watch]:
    """Watches what the body, in this thread, asks for.

    Args:
        ahead: seconds that clocks are ahead for the user's own code, so that what it makes of the
            time differs from another run's.
    """
    global _depth
    watch = Watch(ahead)
    before = getattr(_recording, "watch", None)
    with _lock:
        if _depth == 0:
            try:
                _replace()
            except BaseException:
                _restore()
                raise
        _depth += 1
    _recording.watch = watch
    try:
        yield watch
    finally:
        _recording.watch = before
        with _lock:
            _depth -= 1
            if _depth == 0:
                _restore()


def _watch() -> Watch | None:
    return getattr(_recording, "watch", None)


def _replace() -> None:
    replaced: dict[int, tuple[Any, Any]] = {}
    for kind, table in ((None, _SEEDED), (Kind.CHANCE, _CHANCE), (Kind.MACHINE, _MACHINE)):
        for place, names in table:
            module = sys.modules.get(place)
            for name in names:
                original = getattr(module, name, None)
                if original is not None:
                    new = _noted(original, f"{place}.{name}", kind)
                    _set(module, name, new)
                    replaced[id(original)] = original, new
    for name in _CLOCKS:
        for ending, unit in (("", 1), ("_ns", 10**9)):
            original = getattr(time, name + ending, None)
            if original is None:
                continue
            new = _clock(original, unit)
            _set(time, name + ending, new)
            replaced[id(original)] = original, new
    for place in ("torch", "torch.random"):
        if (seed := getattr(sys.modules.get(place), "manual_seed", None)) is not None:
            _set(sys.modules[place], "manual_seed", _other_seed(seed))
    for name in ("localtime", "gmtime"):
        _set(time, name, _date(getattr(time, name)))
    _set(random.Random, "__init__", _noted_generator(random.Random.__init__))
    environ = type(os.environ)
    _set(environ, "__getitem__", _noted_variable(environ.__getitem__))
    _set(builtins, "hash", _noted_hash(hash))
    for module in _own_modules():
        for name, value in list(vars(module).items()):
            found = replaced.get(id(value))
            if found is not None and found[0] is value:
                _set(module, name, found[1])


def _restore() -> None:
    while _undo:
        owner, name, original = _undo.pop()
        setattr(owner, name, original)


def _set(owner: Any, name: str, value: Any) -> None:
    _undo.append((owner, name, vars(owner)[name]))
    setattr(owner, name, value)


def _own_modules() -> Iterator[ModuleType]:
    """The user's own modules, which may hold a function by a name of theirs."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and not name.startswith(("initclient.", "initcore.")):
            file = vars(module).get("__file__")
            if name == "__main__" if file is None else not file.startswith((STDLIB, *PACKAGES)):
                yield module


def _noted(function: Any, name: str, kind: Kind | None) -> Any:
    """The function, whose calls are noted; a stand-in for a class.

    Without a kind it is a generator, or its seed: with arguments it is seeded.
    """

    def call(*args: Any, **keywords: Any) -> Any:
        watch = _watch()
        if watch is None:
            return function(*args, **keywords)
        seeds = [] if kind else [one for one in (*args, *keywords.values()) if one is not None]
        its_kind = kind or (Kind.SEEDED if seeds else Kind.CHANCE)
        with watch.noted(its_kind, name, repr(seeds[0])[:_LONGEST] if seeds else ""):
            return function(*args, **keywords)

    return _stand_in(function, call) if isinstance(function, type) else wraps(function)(call)


def _stand_in(kind: type, make: Callable[..., Any]) -> type:
    """A class that makes objects of another class, whose methods cannot be replaced."""

    class _Meta(type):
        def __call__(cls, *args: Any, **keywords: Any) -> Any:
            return make(*args, **keywords) if cls is made else super().__call__(*args, **keywords)

        def __instancecheck__(cls, one: Any) -> bool:
            return isinstance(one, kind) if cls is made else super().__instancecheck__(one)

        def __subclasscheck__(cls, one: type) -> bool:
            return issubclass(one, kind) if cls is made else super().__subclasscheck__(one)

    made: type = _Meta(kind.__name__, (kind,), {"__module__": kind.__module__})
    return made


def _noted_generator(function: Any) -> Any:
    @wraps(function)
    def noted(self: Any, x: Any = None) -> Any:
        watch = _watch()
        if watch is None:
            return function(self, x)
        is_seeded = x is not None and not isinstance(self, random.SystemRandom)
        kind = Kind.SEEDED if is_seeded else Kind.CHANCE
        shown = repr(x)[:_LONGEST] if is_seeded else ""
        with watch.noted(kind, f"random.{type(self).__name__}", shown):
            return function(self, x)

    return noted


def _noted_variable(function: Any) -> Any:
    @wraps(function)
    def noted(self: Any, key: Any) -> Any:
        watch = _watch()
        if watch is None:
            return function(self, key)
        with watch.noted(Kind.MACHINE, "os.environ.get", repr(key)):
            return function(self, key)

    return noted


def _noted_hash(function: Any) -> Any:
    @wraps(function)
    def noted(one: Any, /) -> Any:
        watch = _watch()
        # Of text alone: Python gives it another hash in each process.
        if watch is None or not isinstance(one, str | bytes):
            return function(one)
        with watch.noted(Kind.MACHINE, "hash", repr(one)[:_LONGEST]):
            return function(one)

    return noted


def _clock(function: Any, unit: int) -> Any:
    @wraps(function)
    def told() -> Any:
        now = function()
        watch = _watch()
        if watch is None or not watch.moves_the_clock():
            return now
        return now + type(now)(watch.ahead * unit)

    return told


def _date(function: Any) -> Any:
    @wraps(function)
    def told(seconds: float | None = None, /) -> Any:
        watch = _watch()
        if seconds is None and watch is not None and watch.moves_the_clock():
            seconds = _now() + watch.ahead
        return function(seconds)

    return told


def _other_seed(function: Any) -> Any:
    """`torch.manual_seed` with another seed in the second run, which shows values that it decides.

    Draws have no values in a recording, so only code that has read one differs.
    """

    @wraps(function)
    def seeded(seed: Any) -> Any:
        watch = _watch()
        if watch is None or not watch.ahead:
            return function(seed)
        return function(int(seed) - 1 if seed > 0 else int(seed) + 1)

    return seeded
