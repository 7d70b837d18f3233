"""A recipe: rules that initialize the parameters of a kind of model, and the rules' source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from initcore.plan import FrozenDict

from initclient.recipes._formula import Formula
from initclient.recipes._quantities import BASE, Shape


@dataclass(frozen=True)
class Parameter:
    """One parameter or buffer of a model, with the properties that rules use.

    Attributes:
        name: its name in the state dict.
        shape: its shape.
        types: names of the classes of the module that owns it, base classes included; None
            where only names and shapes are known.
        within: the same for all modules around its owner.
        is_buffer: whether it is a buffer.
    """

    name: str
    shape: Shape
    types: tuple[str, ...] | None = None
    within: tuple[str, ...] | None = None
    is_buffer: bool = False

    @property
    def attribute(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Rule:
    """One rule of a recipe. A parameter must fit everything that the rule gives.

    Attributes:
        number: its place among the recipe's rules, from 1.
        scheme: the scheme of the parameters that it matches.
        arguments: the scheme's arguments: formulas for numbers, other values as they are.
        names: globs, one of which matches the whole name, if any are given.
        patterns: regular expressions, likewise.
        types: globs for the class of the module that owns the parameter, or a base class.
        within: globs for the class of a module around that one.
        parameters: globs for the parameter's name within its module.
        when: a condition on the quantities.
        note: the purpose of the rule, in words.
        must_match: whether to warn about a model without such a parameter.
    """

    number: int
    scheme: str
    arguments: Mapping[str, Any]
    names: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()
    types: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    when: Formula | None = None
    note: str = ""
    must_match: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", FrozenDict(self.arguments))

    @property
    def needs_types(self) -> bool:
        """Whether it matches by classes of modules, which names and shapes do not show."""
        return bool(self.types or self.within)

    def matches(self, parameter: Parameter, holds: Callable[[Formula], bool]) -> bool:
        """Whether it matches this parameter; `holds` evaluates its condition."""
        attribute = parameter.attribute
        # As in initclient.torch: a wide pattern such as `*` is meant for weights, not for
        # running means and counters.
        if parameter.is_buffer and not self._spells_out(attribute):
            return False
        return (
            (not self.names or _any(parameter.name, self.names))
            and (not self.patterns or any(p.fullmatch(parameter.name) for p in self.patterns))
            and (not self.parameters or _any(attribute, self.parameters))
            and (not self.types or any(_any(kind, self.types) for kind in parameter.types or ()))
            and (not self.within or any(_any(kind, self.within) for kind in parameter.within or ()))
            and (self.when is None or holds(self.when))
        )

    def formulas(self) -> list[Formula]:
        """Its formulas, the condition included."""
        found = [value for value in self.arguments.values() if isinstance(value, Formula)]
        return found if self.when is None else [self.when, *found]

    def _spells_out(self, attribute: str) -> bool:
        ends = [name.rpartition(".")[2] for name in self.names]
        return attribute in (*self.parameters, *ends)

    def where(self) -> str:
        """Its conditions, as text."""
        parts = []
        for word, globs in (
            ("", self.names),
            ("regex ", tuple(pattern.pattern for pattern in self.patterns)),
            ("parameter ", self.parameters),
            ("of ", self.types),
            ("within ", self.within),
        ):
            if globs:
                parts.append(word + " | ".join(globs))
        if self.when is not None:
            parts.append(f"when {self.when}")
        return ", ".join(parts) or "everything"

    def what(self) -> str:
        """The scheme with its arguments, as text."""
        given = ", ".join(f"{name}={_value_text(value)}" for name, value in self.arguments.items())
        return f"{self.scheme}({given})" if given else self.scheme


@dataclass(frozen=True)
class Recipe:
    """Rules for a kind of model, with their source; `load` makes it, `str` prints it.

    Attributes:
        name: the recipe's name, or the path of its file.
        summary: the recipe in one line.
        source: the paper with equation, or the repository with file, that initializes this way.
        rules: the rules; the first that matches a parameter decides.
        arguments: the recipe's arguments, each with a formula as default; None if the user must
            give it.
        layer_lists: names of the lists of layers, as parts of tensors' names.
        note: further remarks.
        text: the text of the file that it was read from.
        models: of the models with a base class of this name, or of the package of this name,
            globs for the classes, or their bases, that the recipe is for.
        config: arguments that the model's own config has, each with its name there.
        repeats: the library whose initialization it repeats, and what takes the recipe's place
            where there is a model; empty for recipes that no library's code says.
    """

    name: str
    summary: str
    source: tuple[str, ...]
    rules: tuple[Rule, ...]
    arguments: Mapping[str, Formula | None]
    layer_lists: tuple[str, ...]
    note: str
    text: str
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    config: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    repeats: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("arguments", "models", "config", "repeats"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))

    @property
    def needs_types(self) -> tuple[int, ...]:
        """Numbers of the rules that match by classes of modules."""
        return tuple(rule.number for rule in self.rules if rule.needs_types)

    @property
    def deprecation(self) -> str:
        """A sentence on what takes its place where there is a model; "" if it stays."""
        if not self.repeats:
            return ""
        library, instead = next(iter(self.repeats.items()))
        text = (
            f"recipe {self.name} repeats what {library} draws: with a model it is deprecated, and "
            f"goes away in the next release; write {instead}"
        )
        if not self.needs_types:
            text += "; without a model, from names and shapes, it stays (initclient.recipes.plan)"
        return (
            f"{text}; for a model that draws otherwise by itself, make it a recipe of your own: "
            f"`initclient recipes {self.name} --yaml > own.yaml`, without the line `repeats`"
        )

    def is_for(self, classes: Sequence[str]) -> bool:
        """Whether it may be for a model, by the name of its class and those of the bases.

        Args:
            classes: these names; and the name of the package, to have it count too.
        """
        return all(
            any(_any(name, globs) for name in classes)
            for base, globs in self.models.items()
            if base in classes
        )

    def names_class(self, classes: Sequence[str]) -> bool:
        """Whether it names the class of a model, or a base of it, among those that it is for."""
        return any(
            base in classes and any(_any(name, globs) for name in classes)
            for base, globs in self.models.items()
        )

    def uses(self, *names: str) -> bool:
        """Whether one of its formulas or defaults uses one of these names."""
        formulas = [formula for rule in self.rules for formula in rule.formulas()]
        formulas += [formula for formula in self.arguments.values() if formula is not None]
        return any(name in names for formula in formulas for name in formula.names)

    def options(self) -> dict[str, str]:
        """The keys of `recipe_arguments`, each with its default as text."""
        found = {
            name: "required" if default is None else str(default)
            for name, default in self.arguments.items()
        }
        if self.uses("layers"):
            found["layers"] = f"counted in names, after {' or '.join(self.layer_lists)}"
        if self.uses(*BASE):
            found["base_shapes"] = "required: a model of base width, or its shapes by name"
        return found

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.summary}", "", "source:"]
        lines += [f"  {line}" for line in self.source]
        if self.note:
            lines += ["", *self.note.splitlines()]
        for library, instead in self.repeats.items():
            lines += ["", f"with a model, deprecated, since it repeats {library}; write"]
            lines += [f"  {instead}"]
        for base, globs in self.models.items():
            lines += ["", f"for these classes of {base}:", f"  {', '.join(globs) or 'none'}"]
        options = self.options()
        for name, key in self.config.items():
            options[name] += f"; or the model's config.{key}"
        if options:
            width = max(map(len, options))
            lines += ["", "arguments:"]
            lines += [f"  {name:{width}}  {default}" for name, default in options.items()]
        lines += ["", "rules, of which the first that matches decides:"]
        for rule in self.rules:
            lines.append(f"  {rule.number:2}. {rule.where()}")
            lines.append(f"      {rule.what()}" + (f"    # {rule.note}" if rule.note else ""))
        return "\n".join(lines)


def _any(text: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)


def _value_text(value: Any) -> str:
    return str(value) if isinstance(value, Formula) else repr(value)
