"""The commands of `initclient`, one a module: `add` puts it into the parser."""

from initclient._commands import describe, diff, fetch, plan, plot, recipes, verify

COMMANDS = (fetch, describe, verify, recipes, plan, diff, plot)
"""In the order of `initclient --help`."""
