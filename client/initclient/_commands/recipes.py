"""`initclient recipes`."""

from __future__ import annotations

import argparse
from typing import Any

from initcore.show import printable_lines

from initclient import recipes
from initclient._commands._options import RAW, reading

_EPILOG = """\
examples:
  initclient recipes                          list all recipes
  initclient recipes gpt2                     print its source, arguments and rules
  initclient recipes gpt2 --yaml > own.yaml   start a recipe of your own
  initclient recipes own.yaml                 check and print it
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "recipes",
        help="list recipes, or print the rules and the source of one",
        description="List the recipes, or print one. A recipe holds the rules by which a paper or\n"
        "a library initializes a kind of model, and names its source.\n"
        "initclient.torch.plan(model, recipe=NAME) makes a plan with it.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    command.add_argument(
        "recipe",
        metavar="NAME",
        nargs="?",
        help="a recipe, or a YAML file of the same form, for example gpt2 (default: list all)",
    )
    command.add_argument("--yaml", action="store_true", help="print the recipe's YAML file")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.recipe is None:
        known = [recipes.load(name) for name in recipes.names()]
        width = max(len(recipe.name) for recipe in known)
        for recipe in known:
            print(f"{recipe.name:{width}}  {recipe.summary}")
            print(f"{'':{width}}  {recipe.source[0]}")
        return
    with reading("the recipe", options.recipe):
        recipe = recipes.load(options.recipe)
    print(recipe.text.rstrip("\n") if options.yaml else printable_lines(str(recipe)))
