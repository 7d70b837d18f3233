"""A recipe bound to one model: which scheme each of its tensors gets, with which numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import initcore
from initcore import PlanError, Tensor, Violation
from initcore.plan import plain_ints, plain_number

from initclient._plan import named
from initclient.recipes._formula import Formula, FormulaError
from initclient.recipes._quantities import BASE, Quantities, Shape
from initclient.recipes._recipe import Parameter, Recipe, Rule


class Bound:
    """A recipe, and the parameters of one model.

    Args:
        recipe: the recipe.
        parameters: every parameter and buffer of the model.
        arguments: values for the recipe's arguments, by name.

    Raises:
        PlanError: for arguments that the recipe does not take, or that are missing or wrong.
    """

    def __init__(
        self,
        recipe: Recipe,
        parameters: Iterable[Parameter],
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe = recipe
        self._parameters = {parameter.name: parameter for parameter in parameters}
        given = _plain(recipe, arguments)
        base = given.pop("base_shapes", None)
        violations = _check_arguments(recipe, given, base)
        if violations:
            raise PlanError(violations)
        self._quantities = Quantities(
            {name: parameter.shape for name, parameter in self._parameters.items()},
            recipe.layer_lists,
            given.pop("layers", None),
            None if base is None else _shapes(recipe, base),
        )
        self._given = given
        self._used: set[int] = set()

    def rule_for(self, name: str) -> Rule | None:
        """The first rule that matches the tensor of this name, if one does."""
        for rule in self.recipe.rules:
            if self._matches(rule, self._parameters[name]):
                self._used.add(rule.number)
                return rule
        return None

    def values(self, rule: Rule, name: str) -> dict[str, Any]:
        """The arguments of a rule's scheme for one tensor, each formula computed.

        Raises:
            PlanError: if a formula has no value for this tensor.
        """
        return {
            key: self._value(rule, key, value, name) if isinstance(value, Formula) else value
            for key, value in rule.arguments.items()
        }

    def tensor(self, name: str, dtype: Any) -> Tensor | None:
        """The tensor of a plan, or None if no rule matches.

        Raises:
            PlanError: if a formula has no value for this tensor, or a value that is refused.
        """
        rule = self.rule_for(name)
        if rule is None:
            return None
        builder = getattr(initcore, rule.scheme)
        values = self.values(rule, name)
        try:
            tensor = builder(self._parameters[name].shape, dtype=dtype, **values)
        except PlanError as error:
            raise named(error, name) from error
        assert isinstance(tensor, Tensor)
        return tensor

    def warnings(self) -> list[str]:
        """Warnings about how the recipe fits the model, as sentences."""
        name = self.recipe.name
        if not self._used and not all(p.is_buffer for p in self._parameters.values()):
            return [
                f"recipe {name} has no effect: none of its rules matches a parameter (your own "
                "rules come first)"
            ]
        return [
            f"recipe {name}: rule {rule.number} ({rule.note or rule.where()}) matches no "
            "parameter: the model may be of another kind, or name its parameters differently; "
            f"compare the names with `initclient recipes {name}`"
            for rule in self.recipe.rules
            if rule.must_match and not any(map(self._matcher(rule), self._parameters.values()))
        ]

    def _matcher(self, rule: Rule) -> Any:
        return lambda parameter: self._matches(rule, parameter)

    def _matches(self, rule: Rule, parameter: Parameter) -> bool:
        def holds(condition: Formula) -> bool:
            try:
                return condition.holds(lambda name: self._lookup(name, parameter.name))
            except FormulaError as error:
                raise self._error(rule, "when", parameter.name, error) from error

        return rule.matches(parameter, holds)

    def _value(self, rule: Rule, field: str, formula: Formula, tensor: str) -> float:
        try:
            return formula.value(lambda name: self._lookup(name, tensor))
        except FormulaError as error:
            raise self._error(rule, field, tensor, error) from error

    def _lookup(self, name: str, tensor: str) -> float:
        if name in self._given:
            return float(self._given[name])
        default = self.recipe.arguments.get(name)
        if default is not None:
            return default.value(lambda inner: self._lookup(inner, tensor))
        return self._quantities.of(tensor, name)

    def _error(self, rule: Rule, field: str, tensor: str, error: FormulaError) -> PlanError:
        where = f"recipe {self.recipe.name}: rule {rule.number}: {field}"
        return PlanError([Violation(tensor, where, str(error))])


def _plain(recipe: Recipe, arguments: Any) -> dict[str, Any]:
    """The arguments, with numbers of any library as Python's own, as builders take them."""
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        where = f"recipe {recipe.name}: recipe_arguments"
        message = f"is {arguments!r}; give a mapping from arguments to numbers"
        raise PlanError([Violation("", where, message)])
    return {
        name: value if name == "base_shapes" else plain_number(value)
        for name, value in arguments.items()
    }


def _check_arguments(recipe: Recipe, given: Mapping[str, Any], base: Any) -> list[Violation]:
    violations = []

    def fail(name: str, message: str) -> None:
        violations.append(Violation("", f"recipe {recipe.name}: recipe_arguments: {name}", message))

    options = recipe.options()
    for name, value in given.items():
        if name not in options:
            takes = f"it takes {', '.join(options)}" if options else "it takes none"
            fail(name, f"the recipe has no such argument; {takes}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            fail(name, f"is {value!r}; it must be a number")
        elif not _is_finite(value) or (name == "layers" and (value < 1 or value % 1)):
            fail(name, f"is {value!r}; it must be a finite number, and layers a whole one above 0")
    if base is not None and "base_shapes" not in options:
        fail("base_shapes", "the recipe does not use a model of base width; leave it out")
    if base is None and recipe.uses(*BASE):
        fail("base_shapes", "is missing; give the model of base width, or its shapes by name")
    for name, default in recipe.arguments.items():
        if default is None and name not in given:
            fail(name, "is missing; the recipe has no default for it")
    return violations


def _is_finite(value: float) -> bool:
    """Whether a double has the number, rounded or not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shapes(recipe: Recipe, base: Any) -> dict[str, Shape]:
    """Shapes by name from a mapping, a plan, or anything with named_parameters."""
    if hasattr(base, "named_parameters"):
        base = {name: tuple(value.shape) for name, value in base.named_parameters()}
    if hasattr(base, "tensors"):
        base = {name: tensor.shape for name, tensor in base.tensors.items()}
    try:
        return {str(name): _shape(shape) for name, shape in base.items()}
    except (AttributeError, TypeError) as error:
        message = "must be a model, a plan, or a mapping from names to shapes"
        where = f"recipe {recipe.name}: recipe_arguments: base_shapes"
        raise PlanError([Violation("", where, message)]) from error


def _shape(given: Any) -> Shape:
    """The sizes that are given, or those of the tensor that is given in their place."""
    whole = getattr(given, "shape", None)
    # A vector of integers has the sizes; any other array is the tensor itself.
    sizes = plain_ints(given if whole is None or len(whole) == 1 else whole)
    if whole is not None and not _are_sizes(sizes):
        sizes = plain_ints(whole)
    if isinstance(given, int) or not _are_sizes(sizes):
        raise TypeError(f"{given!r} is no shape")
    return sizes


def _are_sizes(values: Iterable[Any]) -> bool:
    return all(isinstance(size, int) and not isinstance(size, bool) for size in values)


def only_names(recipe: Recipe) -> None:
    """Checks that a recipe can decide by names and shapes alone.

    Raises:
        PlanError: if it matches by the classes of modules.
    """
    numbers = recipe.needs_types
    if numbers:
        message = (
            f"its rules {', '.join(map(str, numbers))} match by the class of a module, which names "
            "and shapes do not show; give the model to initclient.torch.plan, or write a recipe "
            "that matches by name"
        )
        raise PlanError([Violation("", f"recipe {recipe.name}", message)])


Named = tuple[str, Sequence[int], Any]


def plan(
    tensors: Iterable[Named],
    recipe: Recipe,
    *,
    seed: int,
    recipe_arguments: Mapping[str, Any] | None,
) -> tuple[initcore.Plan, list[str]]:
    """The plan of tensors known by name, shape and element type, and its warnings."""
    only_names(recipe)
    listed = _listed(tensors)
    bound = Bound(recipe, [Parameter(name, shape) for name, shape, _ in listed], recipe_arguments)
    made: dict[str, Tensor] = {}
    violations: list[Violation] = []
    for name, shape, dtype in listed:
        try:
            tensor = bound.tensor(name, dtype)
        except PlanError as error:
            violations += error.violations
            continue
        if tensor is None:
            text = f"no rule of recipe {recipe.name} covers this tensor, of shape {list(shape)}"
            violations.append(Violation(name, "scheme", text))
        else:
            made[name] = tensor
    if violations:
        raise PlanError(violations)
    return initcore.Plan(made, seed), bound.warnings()


def _listed(tensors: Iterable[Named]) -> list[tuple[str, Shape, Any]]:
    """The tensors as they are given, with plain shapes; a builder checks their fields.

    Raises:
        PlanError: for names that are given twice, and shapes and element types that are none.
        TypeError: for what is no name, shape and element type.
    """
    found: dict[str, tuple[str, Shape, Any]] = {}
    violations: list[Violation] = []
    for given in tensors:
        if not isinstance(given, tuple | list) or len(given) != 3 or not isinstance(given[0], str):
            raise TypeError(
                f"among the tensors is {given!r}; give (name, shape, dtype) of each, such as "
                "('fc.weight', (10, 4), 'BF16')"
            )
        name, shape, dtype = given
        if name in found:
            violations.append(Violation(name, "name", "two tensors have this name"))
        try:
            found[name] = name, initcore.zeros(shape, dtype=dtype).shape, dtype
        except PlanError as error:
            violations += named(error, name).violations
    if violations:
        raise PlanError(violations)
    return [*found.values()]
