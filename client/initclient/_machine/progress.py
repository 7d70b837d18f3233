"""Progress for people: a bar on a terminal or in a notebook, lines in a log.

`progress=True` of the public functions becomes a callback here. No bar is drawn unless a caller
asks for one; rich is imported for terminals alone.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from typing import Any, TypeAlias

from initcore.file import Progress
from initcore.show import size_text

ProgressLike: TypeAlias = Progress | bool | None
"""A callback; or True for a bar; None and False show nothing."""

# Seconds between two lines in a log, and two drawings in a notebook.
_LINES, _DRAWINGS = 10.0, 0.1


@contextmanager
def shown(progress: ProgressLike, title: str, *, silent: bool = False) -> Iterator[Progress | None]:
    """The callback that a call reports its progress to, while the body runs.

    Args:
        progress: a callback, which is given back; or True for a bar: on standard error if that
            is a terminal, as an HTML element in a notebook, else a line on standard error every
            ten seconds.
        title: what the bar is of.
        silent: draws no bar for True, as in all processes of a group but one.

    Raises:
        TypeError: for anything else.
    """
    if progress is None or progress is False:
        yield None
    elif progress is not True:
        check_progress(progress)
        yield progress
    elif silent:
        yield None
    else:
        with _bar(title) as report:
            yield report


def check_progress(progress: object) -> None:
    """Refuses what is neither a callback nor a truth value.

    Raises:
        TypeError: for anything else.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(
            f"progress is {progress!r}; give True for a bar, or a function that takes the bytes "
            "done and the bytes in all"
        )


def _bar(title: str) -> AbstractContextManager[Progress]:
    if _in_notebook():
        return _in_cell(title)
    return _on_terminal(title) if sys.stderr.isatty() else _in_log(title)


@contextmanager
def _on_terminal(title: str) -> Iterator[Progress]:
    """A bar on standard error, a terminal; it is gone afterwards."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    columns = (
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=24),
        ),
        # As wide as the terminal leaves it.
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _in_log(title: str) -> Iterator[Progress]:
    """Lines on standard error, each after some seconds; none for a call that is done sooner."""
    pace = _Pace(_LINES)

    def report(done: int, total: int) -> None:
        if pace.is_due(done):
            print(f"{title}: {pace.text(done, total)}", file=sys.stderr, flush=True)

    yield report


@contextmanager
def _in_cell(title: str) -> Iterator[Progress]:
    """An element of HTML below a notebook's cell; the last one says what was done."""
    # Some of its releases have types, others have none.
    cell: Any = importlib.import_module("IPython.display")
    pace, last = _Pace(_DRAWINGS), ""
    handle = cell.display(cell.HTML(_element(title, 0, 1, "")), display_id=True)

    def report(done: int, total: int) -> None:
        nonlocal last
        is_due, last = pace.is_due(done), pace.text(done, total)
        if is_due:
            handle.update(cell.HTML(_element(title, done, total, last)))

    try:
        yield report
    finally:
        handle.update(cell.HTML(f"<span>{escape(title)}: {last or 'nothing to do'}</span>"))


def _element(title: str, done: int, total: int, text: str) -> str:
    return (
        f'<label>{escape(title)} <progress value="{done}" max="{max(total, 1)}"></progress> '
        f"{text}</label>"
    )


class _Pace:
    """How fast work goes on, and when to say so.

    Args:
        seconds: the time between two reports.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started = self._last = time.monotonic()
        self._at_first: int | None = None

    def is_due(self, done: int) -> bool:
        """Whether it is time for the next report; asked each time that bytes are done."""
        if self._at_first is None:
            # What an earlier fetch had left was there before.
            self._at_first = done
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True

    def text(self, done: int, total: int) -> str:
        """Bytes done, their share and their speed, as in "3.0 GiB of 6.0 GiB (50 %), ..."."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        speed = size_text(int((done - (self._at_first or 0)) / seconds))
        share = 100 * done // max(total, 1)
        return f"{size_text(done)} of {size_text(total)} ({share} %), {speed}/s"


def _in_notebook() -> bool:
    """Whether a kernel runs this code, of which IPython is a part."""
    ask: Callable[[], Any] | None = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return ask is not None and getattr(ask(), "kernel", None) is not None
