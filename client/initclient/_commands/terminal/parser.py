"""The parser of the command line: short usage, and names that are nearly right."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from initcore.plan import suggestion
from initcore.show import fitted
from initcore.show.help import unknown_argument


class Parser(argparse.ArgumentParser):
    """A parser whose errors suggest the name that is meant.

    `usage` is the command with what it needs; the flags follow in the help.
    """

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is not None and value not in choices:
            message = f"{value!r} is not known: {suggestion(value, [*map(str, choices)])}"
            raise argparse.ArgumentError(action, message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses what this parser does not know, instead of leaving it to the one above."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(unknown_argument(self, unknown[0]))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2, the usage and a sentence."""
        self.print_usage(sys.stderr)
        self.exit(2, fitted(f"{self.prog}: error: {message}\n", sys.stderr))

    def shorten_usage(self) -> None:
        """Sets the usage: required flags and arguments by name, all others as "[flags]"."""
        words = [self.prog, "[flags]"]
        for action in self._actions:
            if action.option_strings and action.required:
                words.append(f"{action.option_strings[-1]} {action.metavar}")
            elif not action.option_strings and action.metavar is not None:
                name = str(action.metavar)
                words.append(f"[{name}]" if action.nargs == "?" else name)
        self.usage = " ".join(words)
