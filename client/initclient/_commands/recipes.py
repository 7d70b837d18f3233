"""`initclient recipes`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from initcore.show import printable_lines

from initclient import recipes
from initclient._commands._options import RAW, reading
from initclient._commands.terminal import show

_EPILOG = """\
examples:
  initclient recipes                          list all recipes
  initclient recipes gpt2                     print its source, arguments and rules
  initclient recipes gpt2 --yaml > own.yaml   start a recipe of your own
  initclient recipes own.yaml                 check and print it
  initclient recipes --json | jq -r '.[].name'
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
    form = command.add_mutually_exclusive_group()
    form.add_argument("--yaml", action="store_true", help="print the recipe's YAML file")
    form.add_argument(
        "--json", action="store_true", help="print JSON; with the rules if NAME is given"
    )
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.recipe is None:
        known = [recipes.load(name) for name in recipes.names()]
        if options.json:
            print(json.dumps([_form(recipe) for recipe in known], indent=2))
            return
        width = max(len(recipe.name) for recipe in known)
        for recipe in known:
            show(f"{recipe.name:{width}}  {recipe.summary}")
            show(f"{'':{width}}  {recipe.source[0]}")
            for library in recipe.repeats:
                show(f"{'':{width}}  with a model, deprecated, since it repeats {library}")
        return
    with reading("the recipe", options.recipe):
        recipe = recipes.load(options.recipe)
    if options.json:
        print(json.dumps({**_form(recipe), "rules": [*map(_rule, recipe.rules)]}, indent=2))
        return
    if options.yaml:
        print(recipe.text.rstrip("\n"))
    else:
        show(printable_lines(str(recipe)))


def _form(recipe: recipes.Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "source": list(recipe.source),
        "arguments": recipe.options(),
        "models": {base: list(globs) for base, globs in recipe.models.items()},
        "note": recipe.note,
    }


def _rule(rule: recipes.Rule) -> dict[str, Any]:
    return {"where": rule.where(), "what": rule.what(), "note": rule.note}
