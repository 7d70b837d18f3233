"""Reads a recipe from its YAML form, and reports all errors at once."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

from initcore import PlanError, Tensor, Violation
from initcore.plan import REALS, SCHEMES, Check, check_kind, suggestion
from initcore.wire import load_yaml

from initclient.recipes._formula import FUNCTIONS, Formula, FormulaError, parse
from initclient.recipes._quantities import IN_LAYERS, QUANTITIES
from initclient.recipes._recipe import Recipe, Rule

_TOP = (
    *("summary", "source", "note", "repeats", "models", "layer_lists", "arguments", "config"),
    "rules",
)
_MATCHING = ("name", "regex", "type", "within", "parameter", "when")
_OTHER = ("scheme", "note", "must_match")

DRAWN = tuple(name for name, scheme in SCHEMES.items() if scheme.draws)
"""The schemes that a rule can give: those that need nothing but a shape and arguments."""

_ARGUMENTS = tuple({name: None for scheme in DRAWN for name in SCHEMES[scheme].arguments})

# Names that have a meaning in every recipe, so that no argument may take them.
_RESERVED = (*QUANTITIES, *FUNCTIONS, "base_shapes")


def read(text: str, name: str) -> Recipe:
    """The recipe in the text of a YAML file; `name` is its name, also in errors.

    Raises:
        PlanError: if it is no recipe; the error names file, rule, field, value and remedy.
    """
    import yaml

    try:
        form = load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanError([Violation("", name, f"is not YAML: {error}")]) from error
    if not isinstance(form, dict):
        message = f"has no keys; a recipe has the keys {', '.join(_TOP)}"
        raise PlanError([Violation("", name, message)])
    reader = _Reader(name)
    recipe = reader.recipe(form, text)
    if reader.violations:
        raise PlanError(reader.violations)
    return recipe


class _Reader:
    """Reads a recipe field by field and collects the errors."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.violations: list[Violation] = []
        self.where = ""

    def fail(self, field: str, message: str) -> None:
        parts = (self.source, self.where, field)
        self.violations.append(Violation("", ": ".join(part for part in parts if part), message))

    def recipe(self, form: dict[Any, Any], text: str) -> Recipe:
        self._known(form, _TOP)
        lists = self._texts(form, "layer_lists")
        arguments = self._arguments(form.get("arguments"), lists)
        rules = form.get("rules")
        if not isinstance(rules, list) or not rules:
            self.fail("rules", f"is {rules!r}; give a list of rules, such as {_EXAMPLE}")
            rules = []
        found = []
        for number, rule in enumerate(rules, 1):
            self.where = f"rule {number}"
            found.append(self._rule(number, rule, arguments, lists))
        self.where = ""
        return Recipe(
            name=self.source,
            summary=self._text(form, "summary", required=True),
            source=self._texts(form, "source", required=True),
            rules=tuple(rule for rule in found if rule is not None),
            arguments=arguments,
            layer_lists=lists,
            note=self._text(form, "note"),
            text=text,
            models=self._models(form),
            config=self._config(form, arguments),
            repeats=self._repeats(form),
        )

    def _rule(
        self,
        number: int,
        form: Any,
        arguments: Mapping[str, Formula | None],
        lists: tuple[str, ...],
    ) -> Rule | None:
        if not isinstance(form, dict):
            self.fail("", f"is {form!r}; it must be a mapping, such as {_EXAMPLE}")
            return None
        self._known(form, (*_MATCHING, *_OTHER, *_ARGUMENTS))
        if not any(key in form for key in _MATCHING):
            keys = ", ".join(_MATCHING)
            self.fail("", f"matches by nothing; give one of {keys}; name: '*' matches everything")
        known = (*arguments, *QUANTITIES)
        must_match = form.get("must_match", False)
        if not isinstance(must_match, bool):
            self.fail("must_match", f"is {must_match!r}; it must be true or false")
        scheme = self._scheme(form)
        return Rule(
            number=number,
            scheme=scheme,
            arguments=self._given(form, scheme, known, lists),
            names=self._texts(form, "name"),
            patterns=self._patterns(form),
            types=self._texts(form, "type"),
            within=self._texts(form, "within"),
            parameters=self._texts(form, "parameter"),
            when=self._condition(form, known, lists),
            note=self._text(form, "note"),
            must_match=must_match is True,
        )

    def _known(self, form: dict[Any, Any], keys: tuple[str, ...]) -> None:
        for key in form:
            if key not in keys:
                self.fail(str(key), f"there is no such field: {suggestion(key, keys)}")

    def _text(self, form: dict[Any, Any], key: str, required: bool = False) -> str:
        value = form.get(key, "")
        if not isinstance(value, str):
            self.fail(key, f"is {value!r}; it must be text")
            return ""
        if required and not value.strip():
            self.fail(key, "is missing; say in one line what the recipe does")
        return value.strip()

    def _texts(self, form: dict[Any, Any], key: str, required: bool = False) -> tuple[str, ...]:
        value = form.get(key)
        if value is None and key not in form:
            if required:
                self.fail(key, "is missing; say whose initialization it is, in one line or several")
            return ()
        values = [value] if isinstance(value, str) else value
        good = isinstance(values, list) and all(isinstance(v, str) and v for v in values)
        if not good or not values:
            self.fail(key, f"is {value!r}; it must be text, or a list of texts")
            return ()
        return tuple(values)

    def _patterns(self, form: dict[Any, Any]) -> tuple[re.Pattern[str], ...]:
        found = []
        for text in self._texts(form, "regex"):
            try:
                found.append(re.compile(text))
            except re.error as error:
                self.fail("regex", f"is {text!r}, which is not a regular expression: {error}")
        return tuple(found)

    def _models(self, form: dict[Any, Any]) -> dict[str, tuple[str, ...]]:
        models = form.get("models", {})
        if not isinstance(models, dict) or not all(isinstance(base, str) for base in models):
            self.fail(
                "models",
                f"is {models!r}; give a mapping from a base class to the classes that the recipe "
                "is for, such as {PreTrainedModel: [LlamaPreTrainedModel]}",
            )
            return {}
        # An empty list: for none of them.
        return {base: self._texts(models, base) if models[base] != [] else () for base in models}

    def _config(self, form: dict[Any, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
        config = form.get("config", {})
        if not isinstance(config, dict) or not all(isinstance(v, str) for v in config.values()):
            self.fail(
                "config",
                f"is {config!r}; give a mapping from arguments to their names in the model's "
                "config, such as {std: initializer_range}",
            )
            return {}
        for name in config:
            if name not in arguments:
                self.fail(
                    f"config: {name}", "is not an argument of this recipe; add it to arguments"
                )
        return config

    def _repeats(self, form: dict[Any, Any]) -> dict[str, str]:
        repeats = form.get("repeats", {})
        is_text = isinstance(repeats, dict) and all(
            isinstance(text, str) for pair in repeats.items() for text in pair
        )
        if not is_text or len(repeats) > 1:
            self.fail(
                "repeats",
                f"is {repeats!r}; give a mapping from a library to what takes the recipe's place, "
                "such as {torch.nn: ict.plan(model)}",
            )
            return {}
        return {str(library): str(instead) for library, instead in repeats.items()}

    def _arguments(self, form: Any, lists: tuple[str, ...]) -> dict[str, Formula | None]:
        if form is None:
            return {}
        if not isinstance(form, dict):
            self.fail("arguments", f"is {form!r}; it must be a mapping from names to defaults")
            return {}
        found: dict[str, Formula | None] = {}
        for name, default in form.items():
            field = f"arguments: {name}"
            if not isinstance(name, str) or name in _RESERVED or not _is_name(name):
                self.fail(
                    field, "is not a name for an argument; use an identifier without a meaning yet"
                )
            elif default is None:
                found[name] = None
            else:
                # Only earlier arguments, so that no default refers to itself.
                found[name] = self._formula(field, default, (*found, *QUANTITIES), lists)
        return found

    def _scheme(self, form: dict[Any, Any]) -> str:
        scheme = form.get("scheme")
        if isinstance(scheme, str) and scheme.lower() in DRAWN:
            return scheme.lower()
        what = "is missing" if scheme is None else f"{scheme!r} is not known"
        self.fail("scheme", f"{what}: {suggestion(scheme or '', DRAWN)}")
        return ""

    def _given(
        self, form: dict[Any, Any], scheme: str, known: tuple[str, ...], lists: tuple[str, ...]
    ) -> dict[str, Any]:
        """The scheme's arguments, checked as far as they can be without a tensor."""
        given: dict[str, Any] = {}
        for key, value in form.items():
            if key not in _ARGUMENTS:
                continue
            given[key] = self._formula(key, value, known, lists) if key in REALS else value
        if scheme:
            plain: dict[str, Any] = {key: 1.0 if key in REALS else given[key] for key in given}
            axes = plain.pop("batch_axes", None)
            check = Check("", None)
            try:
                check_kind(check, Tensor(scheme=scheme, shape=(2, 2), **plain))
            except TypeError as error:
                self.fail("scheme", f"has arguments of a wrong type: {error}")
            for violation in check.violations:
                self.fail(violation.field, violation.message)
            if axes is not None and "batch_axes" not in SCHEMES[scheme].arguments:
                self.fail("batch_axes", f"is {axes!r}, but scheme {scheme} does not take it")
        return given

    def _condition(
        self, form: dict[Any, Any], known: tuple[str, ...], lists: tuple[str, ...]
    ) -> Formula | None:
        if "when" not in form:
            return None
        return self._formula("when", form["when"], known, lists, condition=True)

    def _formula(
        self,
        field: str,
        value: Any,
        known: tuple[str, ...],
        lists: tuple[str, ...],
        condition: bool = False,
    ) -> Formula | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.fail(field, f"is {value!r}; it must be a number or a formula")
            return None
        try:
            formula = parse(value if isinstance(value, str) else repr(value), condition)
        except FormulaError as error:
            self.fail(field, str(error))
            return None
        for name in formula.names:
            if name not in known:
                text = f"has {name!r}, which is not known: {suggestion(name, known)}"
                self.fail(field, f"is {formula}: it {text}")
            elif name in IN_LAYERS and not lists:
                text = "which needs layer_lists, the names of the lists of layers, such as [h]"
                self.fail(field, f"is {formula}: it has {name}, {text}")
        return formula


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


_EXAMPLE = "{name: '*.bias', scheme: zeros}"
