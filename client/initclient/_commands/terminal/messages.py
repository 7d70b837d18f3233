"""What a command says beside its result, on standard error: errors, warnings, and -q and -v."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from initcore.show import fitted, printable_lines

from initclient._exceptions import PlanWarning

_LOG = logging.getLogger("initclient")


def add_messages(command: argparse.ArgumentParser) -> None:
    """Adds -q and -v."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print only results and errors: no progress, no warnings, no summary",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="also print the plan, the backend or the servers, failed calls, and the place in the "
        "code that raised an error",
    )


@contextmanager
def printing(options: argparse.Namespace) -> Iterator[None]:
    """Shows what the body does, as -q and -v say; a warning is one line."""
    handler = _Lines()
    level, propagate = _LOG.level, _LOG.propagate
    with warnings.catch_warnings():
        warnings.simplefilter("always", PlanWarning)
        warnings.showwarning = _show_warning
        if options.quiet:
            warnings.simplefilter("ignore")
        if options.verbose:
            _LOG.addHandler(handler)
            _LOG.setLevel(logging.INFO)
            _LOG.propagate = False
        try:
            yield
        except Exception as error:
            if options.verbose:
                traceback.print_exception(error)
            raise
        finally:
            _LOG.removeHandler(handler)
            _LOG.setLevel(level)
            _LOG.propagate = propagate


class _Lines(logging.Handler):
    """Prints each record as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        print(f"initclient: {printable_lines(record.getMessage())}", file=sys.stderr)


def say(options: argparse.Namespace, text: str, *, beside: bool = False) -> None:
    """Prints a summary, unless -q is given.

    Args:
        options: has `quiet`.
        text: the summary.
        beside: prints it on standard error, since standard output holds the result.
    """
    out = sys.stderr if beside else sys.stdout
    if not options.quiet:
        print(fitted(text, out), file=out)


def show(result: object) -> None:
    """Prints a result for people; on a terminal its lines are broken between words."""
    print(fitted(str(result), sys.stdout))


def print_error(error: BaseException | None, text: str) -> None:
    """Prints an error and its notes, such as the name of a partial file that was kept."""
    _print(f"initclient: error: {printable_lines(text)}")
    print_notes(error)


def print_notes(error: BaseException | None) -> None:
    """Prints the notes of an error."""
    for note in getattr(error, "__notes__", ()):
        print_note(note)


def print_note(text: str) -> None:
    """Prints a line that is neither the result nor the command's error."""
    _print(f"initclient: {printable_lines(text)}")


def _show_warning(message: Warning | str, *rest: Any, **keywords: Any) -> None:
    _print(f"warning: {printable_lines(str(message))}")


def _print(text: str) -> None:
    print(fitted(text, sys.stderr), file=sys.stderr)
