"""The commands of `initclient`, one a module: `add` puts it into the parser."""

from initclient._commands import (
    completion,
    describe,
    diff,
    fetch,
    info,
    models,
    mount,
    plan,
    plot,
    recipes,
    verify,
)
from initclient._commands._options import RAW, BadInput, os_text

__all__ = ["COMMANDS", "RAW", "BadInput", "os_text"]

COMMANDS = (fetch, describe, verify, models, recipes, plan, diff, plot, mount, info, completion)
"""In the order of `initclient --help`."""
