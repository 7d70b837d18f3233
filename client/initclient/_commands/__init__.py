"""The commands of `initclient`, one a module: `add` puts it into the parser."""

from initclient._commands import describe, fetch, plan, recipes

COMMANDS = (fetch, describe, recipes, plan)
"""In the order of `initclient --help`."""
