"""`initclient recipes`."""

from __future__ import annotations

import argparse
from typing import Any

from initclient import recipes
from initclient._commands._options import RAW, reading

_EPILOG = """\
examples:
  initclient recipes                          which ones there are
  initclient recipes gpt2                     its rules, its arguments and its source
  initclient recipes gpt2 --yaml > own.yaml   a start for one of your own
  initclient recipes own.yaml                 checks it, and prints it
"""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "recipes",
        help="list recipes, or print the rules and the source of one",
        description="Recipes say how the parameters of a kind of model are drawn: the rules of a\n"
        "paper or a library, with their source. initclient.torch.plan(model, recipe=NAME)\n"
        "makes a plan with one.",
        epilog=_EPILOG,
        formatter_class=RAW,
    )
    command.add_argument(
        "recipe", metavar="NAME", nargs="?", help="a recipe, or a YAML file of the same form"
    )
    command.add_argument("--yaml", action="store_true", help="print the recipe's file as it is")
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
    print(recipe.text.rstrip("\n") if options.yaml else recipe)
