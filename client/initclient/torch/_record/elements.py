"""Elements: an expression element by element, for tensors that are small enough.

Each element is `scale * x + shift` with an x of its own. Operations that only move elements are
replayed on the numbers of the elements, so that every kind of indexing is right by construction.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from initclient._laws import Cell, Constant, Folding, Law, NotUnderstoodError, Source, Use, folded
from initclient.torch._record.arithmetic import SMALL, function_of_laws, is_rounded, value
from initclient.torch._record.computed import exact_values, kinds_of
from initclient.torch._record.repeats import use_of
from initclient.torch._trace import Assembled, Call, Drawn, Evaluation, Expression, Unwritten, text

_COPIES = {"clone", "_to_copy", "copy", "lift_fresh_copy", "contiguous", "alias_copy"}
_MOVES = {
    "_reshape_copy",
    "_unsafe_view",
    "cat",
    "constant_pad_nd",
    "expand_copy",
    "flip",
    "gather",
    "index",
    "index_select",
    "permute_copy",
    "repeat",
    "repeat_interleave",
    "roll",
    "rot90",
    "slice_copy",
    "stack",
    "take",
    "tile",
    "tril",
    "triu",
    "unfold_copy",
    "view_copy",
    "diag",
    "diag_embed",
    "diagonal_copy",
}
_PLACES = {"index_put", "masked_fill", "index_fill", "where", "masked_scatter", "scatter"}
_FILLING = {"tril", "triu", "constant_pad_nd", "diag_embed", "diag"}

# Arguments that say which elements an operation moves; their numbers are no elements themselves.
_SELECTORS = {"index", "indices", "mask", "condition", "repeats"}

# Kinds of elements that one tensor may have.
_MOST = 64

# Different values of a computed tensor, each of which becomes a part of its plan.
_MOST_VALUES = 256

_Arrays = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Elements:
    """The elements of an expression.

    Attributes:
        labels: for each element of the part that is repeated, the index of its cell.
        cells: the cells.
        folding: the dimensions along which the part is repeated; None if it is the whole.
    """

    labels: torch.Tensor
    cells: tuple[Cell, ...]
    folding: Folding | None = None


def elements(expression: Expression, values: Evaluation) -> Elements:
    """The elements of an expression.

    Raises:
        NotUnderstoodError: if it is too large, has other arithmetic, or has one element of a
            draw in several places.
    """
    if math.prod(expression.shape) > SMALL:
        raise NotUnderstoodError(f"{text(expression)} is no law of its own", expression)
    with _disable_current_modes(), torch.no_grad(), torch.device("cpu"):
        reader = _Reader(values)
        numbers, scale, shift = (part.contiguous() for part in reader.arrays(expression))
        folding = None
        if not reader.are_apart(numbers):
            folding, places = _repeated(numbers, scale, shift)
            numbers, scale, shift = (one.flatten()[places] for one in (numbers, scale, shift))
        if not reader.are_apart(numbers):
            reason = f"{text(expression)} has one draw in several places"
            raise NotUnderstoodError(reason, expression)
        return _labelled(expression, reader, (numbers, scale, shift), folding)


def _repeated(*parts: torch.Tensor) -> tuple[Folding, torch.Tensor]:
    """The folding of elements, and where in the whole each element of the part is."""
    labels = torch.zeros(parts[0].numel(), dtype=torch.int64)
    for part in parts:
        bits = part.flatten() if not part.is_floating_point() else part.flatten().view(torch.int64)
        kinds = torch.unique(bits, return_inverse=True)[1]
        mixed = labels * (int(kinds.max()) + 1) + kinds
        labels = torch.unique(mixed, return_inverse=True)[1]
    folding, kept = folded(labels.reshape(parts[0].shape).numpy(), within_axes=True)
    # The first place of each kind.
    first = torch.full((int(labels.max()) + 1,), labels.numel())
    first.scatter_reduce_(0, labels, torch.arange(labels.numel()), "amin")
    return folding, first[torch.from_numpy(kept)]


def computed_elements(expression: Expression, values: Evaluation) -> Elements:
    """The elements of an expression without draws, each kind a constant.

    Raises:
        NotUnderstoodError: if it has no values, is too large, or has too many different values.
    """
    if math.prod(expression.shape) > SMALL:
        raise NotUnderstoodError("it is computed, and too large to look at", expression)
    exact = exact_values(value(expression, values), expression)
    integral = not exact.is_floating_point()
    # As bits, which tell 0.0 from -0.0.
    exact = exact if integral else exact.view(torch.int64)
    found = kinds_of(exact, _MOST_VALUES)
    if found is None:
        raise NotUnderstoodError("its values are computed, and too many", expression)
    kinds, labels = found
    numbers = (kinds if integral else kinds.view(torch.float64)).tolist()
    sources = () if expression.source is None else (expression.source,)
    cells = tuple(Cell(Constant(number), sources=sources) for number in numbers)
    return Elements(labels, cells)


def _labelled(
    expression: Expression,
    reader: _Reader,
    arrays: _Arrays,
    folding: Folding | None,
) -> Elements:
    numbers, scale, shift = arrays
    drawn = numbers >= 0
    owner = torch.where(drawn, numbers >> _SHIFT, -1)
    kinds = torch.stack([owner.double(), scale, shift]).flatten(1)
    found, labels = torch.unique(kinds, dim=1, return_inverse=True)
    if found.shape[1] > _MOST:
        reason = f"{text(expression)} has {found.shape[1]} kinds of elements"
        raise NotUnderstoodError(reason, expression)
    cells = []
    order = hashlib.sha256(numbers.numpy().tobytes()).hexdigest()
    for number, a, b in found.T.tolist():
        if number < 0:
            integral = not expression.dtype.is_floating_point
            cells.append(Cell(Constant(int(b) if integral else b)))
            continue
        base = reader.bases[int(number)]
        use = base.use.at("elements", order)
        changes = (*base.changes, f"* {a:.17g} + {b:.17g}")
        cells.append(Cell(base.law.affine(a, b), (use,), changes, base.sources))
    return Elements(labels.reshape(numbers.shape), tuple(cells), folding)


# The number of an element: the number of its base, and its place in the draw.
_SHIFT = 32


@dataclass(frozen=True)
class _Base:
    """A draw, or a function of one.

    Attributes:
        use: the draw.
        law: the law of the elements.
        changes: the functions, as text.
        sources: the lines that drew and changed it.
    """

    use: Use
    law: Law
    changes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()


class _Reader:
    """Reads expressions into arrays: number of the draw's element, scale, shift."""

    def __init__(self, values: Evaluation) -> None:
        self._values = values
        self._known: dict[int, _Arrays] = {}
        self.bases: list[_Base] = []

    def arrays(self, expression: Expression) -> _Arrays:
        """The arrays of an expression, of its shape."""
        if id(expression) not in self._known:
            if expression.depth > 500 or math.prod(expression.shape) > SMALL:
                raise NotUnderstoodError(f"{text(expression)} is too long to follow", expression)
            self._known[id(expression)] = self._read(expression)
        return self._known[id(expression)]

    def are_apart(self, numbers: torch.Tensor) -> bool:
        """Whether no element of a draw is in two places, whatever functions were taken of it."""
        drawn = numbers[numbers >= 0]
        if not len(self.bases):
            return True
        draws = torch.tensor([base.use.draw for base in self.bases])[drawn >> _SHIFT]
        places = drawn & ((1 << _SHIFT) - 1)
        return int(torch.unique((draws << _SHIFT) + places).numel()) == drawn.numel()

    def _read(self, expression: Expression) -> _Arrays:
        if not expression.is_random:
            found = value(expression, self._values)
            if found.is_complex():
                raise NotUnderstoodError("complex numbers beside draws", expression)
            shift = found.to(torch.float64)
            return torch.full(shift.shape, -1), torch.zeros_like(shift), shift
        if isinstance(expression, Drawn):
            return self._drawn(expression)
        if isinstance(expression, Assembled):
            return self._assembled(expression)
        assert isinstance(expression, Call)
        return self._called(expression)

    def _drawn(self, draw: Drawn) -> _Arrays:
        if draw.own_generator or not draw.law.is_independent:
            raise NotUnderstoodError(f"a part of {text(draw)}", draw)
        count = math.prod(draw.shape)
        numbers = (torch.arange(count) + (len(self.bases) << _SHIFT)).reshape(draw.shape)
        sources = () if draw.source is None else (draw.source,)
        self.bases.append(_Base(use_of(draw), draw.law, (), sources))
        scale = torch.ones(draw.shape, dtype=torch.float64)
        return numbers, scale, torch.zeros_like(scale)

    def _assembled(self, expression: Assembled) -> _Arrays:
        written = [(view, e) for view, e in expression.writes if not isinstance(e, Unwritten)]
        end = max([expression.view.end, *(view.end for view, _ in written)])
        if end > SMALL:
            raise NotUnderstoodError("it is a part of a large tensor", expression)
        flat = (
            torch.full((end,), _NOWHERE),
            torch.zeros(end, dtype=torch.float64),
            torch.zeros(end, dtype=torch.float64),
        )
        for view, content in written:
            for one, part in zip(flat, self.arrays(content), strict=True):
                view.on(one).copy_(part)
        numbers, scale, shift = (expression.view.on(one).clone() for one in flat)
        if bool((numbers == _NOWHERE).any()):
            raise NotUnderstoodError("a part of it is never written", expression)
        return numbers, scale, shift

    def _called(self, call: Call) -> _Arrays:
        name = call.name
        if not call.dtype.is_floating_point:
            raise NotUnderstoodError(f"a draw is converted to {call.dtype}", call)
        if name in _COPIES:
            copied = self.arrays(call.args[1] if name == "copy" else call.args[0])
            return _map(copied, lambda part: part.expand(call.shape))
        if name in _MOVES or name in _PLACES:
            return self._moved(call)
        if name in ("mul", "div", "add", "sub") and not is_rounded(call):
            return self._scaled(call)
        changed = function_of_laws(call, self._values)
        if changed is not None:
            x, function = changed
            return self._changed(self.arrays(x), function, call)
        raise NotUnderstoodError(f"{text(call)} is no law of its own", call)

    def _moved(self, call: Call) -> _Arrays:
        """The operation on each array, in place of the values."""
        if call.name in ("tril", "triu", "constant_pad_nd") and len(call.args) > 2 and call.args[2]:
            raise NotUnderstoodError(f"{text(call)} is no law of its own", call)
        names = [one.name for one in call.function._schema.arguments]
        given = {**dict(zip(names, call.args, strict=False)), **call.keywords}
        if given.get("accumulate") or given.get("reduce") is not None:
            raise NotUnderstoodError(f"{text(call)} adds or multiplies elements", call)
        parts = []
        for place in range(3):
            filler = -1 if place == 0 else 0

            def operand(name: str, leaf: Any, place: int = place) -> Any:
                if isinstance(leaf, Expression):
                    if name in _SELECTORS:
                        return value(leaf, self._values)
                    part = self.arrays(leaf)[place]
                    return part.clone() if leaf is call.changed else part
                is_written = name == "value" and isinstance(leaf, bool | int | float)
                return (-1, 0.0, float(leaf))[place] if is_written else leaf

            moved = {
                name: tree_map(partial(operand, name), one)
                for name, one in given.items()
                if name != "memory_format"
            }
            if call.name in _FILLING:
                # They put zeros beside what they move: the number -1 says that it is no draw.
                moved.pop("value", None)
                moved[names[0]] = moved[names[0]] - filler
                made = _apply(call, moved) + filler
            else:
                made = _apply(call, moved)
            parts.append(made)
        return parts[0], parts[1], parts[2]

    def _scaled(self, call: Call) -> _Arrays:
        left, right = (self._operand(one) for one in call.args[:2])
        alpha = float(call.keywords.get("alpha", 1))
        name = call.name
        if not bool((right[0] >= 0).any()):
            numbers, scale, shift = left
            number = right[2]
            if name == "mul":
                made = numbers, scale * number, shift * number
            elif name == "div":
                made = numbers, scale / number, shift / number
            else:
                step = alpha * number if name == "add" else -alpha * number
                made = numbers, scale + 0 * step, shift + step
        elif not bool((left[0] >= 0).any()) and name != "div":
            numbers, scale, shift = right
            number = left[2]
            if name == "mul":
                made = numbers, scale * number, shift * number
            else:
                sign = alpha if name == "add" else -alpha
                made = numbers, sign * scale + 0 * number, sign * shift + number
        else:
            raise NotUnderstoodError(f"{text(call)} combines two draws", call)
        numbers, scale, shift = _map(made, lambda part: part.expand(call.shape))
        # A draw times zero is no draw any more.
        return torch.where(scale == 0, -1, numbers), scale, shift

    def _changed(self, x: _Arrays, function: Callable[[Law], Law], call: Call) -> _Arrays:
        """A function of each element: every kind of draw, scale and shift is a base of its own."""
        numbers, scale, shift = x
        if not bool((numbers >= 0).all()):
            raise NotUnderstoodError(f"{text(call)} takes draws beside other values", call)
        kinds = torch.stack([(numbers >> _SHIFT).double(), scale, shift]).flatten(1)
        found, labels = torch.unique(kinds, dim=1, return_inverse=True)
        if found.shape[1] > _MOST:
            raise NotUnderstoodError(f"{text(call)} has {found.shape[1]} kinds of elements", call)
        first = len(self.bases)
        for number, a, b in found.T.tolist():
            base = self.bases[int(number)]
            changes = (*base.changes, f"* {a:.17g} + {b:.17g}", text(call, 1))
            sources = base.sources if call.source is None else (*base.sources, call.source)
            law = function(base.law.affine(a, b))
            self.bases.append(_Base(base.use, law, changes, sources))
        places = numbers & ((1 << _SHIFT) - 1)
        moved = ((labels.reshape(numbers.shape) + first) << _SHIFT) + places
        return moved, torch.ones_like(scale), torch.zeros_like(shift)

    def _operand(self, one: Any) -> _Arrays:
        if isinstance(one, Expression):
            return self.arrays(one)
        shift = torch.tensor(float(one), dtype=torch.float64)
        return torch.tensor(-1), torch.zeros_like(shift), shift


def _apply(call: Call, given: dict[str, Any]) -> torch.Tensor:
    result = call.function(**given)
    assert isinstance(result, torch.Tensor)
    return result


def _map(arrays: _Arrays, function: Callable[[torch.Tensor], torch.Tensor]) -> _Arrays:
    numbers, scale, shift = arrays
    return function(numbers), function(scale), function(shift)


_NOWHERE = -2
