"""The commands of `initclient`, one a module: `add` puts it into the parser."""

from initclient._commands import (
    describe,
    diff,
    fetch,
    info,
    models,
    plan,
    plot,
    recipes,
    verify,
)
from initclient._commands._options import RAW, BadInput, os_text
from initclient._commands.termination import exit_on_sigterm

__all__ = ["COMMANDS", "RAW", "BadInput", "exit_on_sigterm", "os_text"]

COMMANDS = (fetch, describe, verify, models, recipes, plan, diff, plot, info)
"""In the order of `initclient --help`."""
