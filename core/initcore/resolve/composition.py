"""Tensors made of other tensors: their shapes, and which part holds which elements.

A composed tensor draws nothing. Its elements are those of its parts, and each part has a name,
hence a stream, of its own: a fused weight equals the weights that it joins, and each slice of it
equals theirs. All positions are global.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from initcore.plan import Check, composed_shape
from initcore.resolve.contents import Applied, Composed, Norm

MAX_DEPTH = 8
"""Levels of composed tensors within each other, at most."""

Shape: TypeAlias = tuple[int, ...]
Box: TypeAlias = tuple[tuple[int, int], ...]
"""(start, stop) for each dimension."""


def compose(
    check: Check, scheme: str, shape: Shape, shapes: Sequence[Shape], arguments: dict[str, Any]
) -> Composed | Applied | Norm | None:
    """How a tensor of this shape is made of parts of these shapes; None if it cannot be.

    Args:
        check: takes the violations.
        scheme: one of `initcore.plan.COMPOSED`.
        shape: the tensor's shape.
        shapes: the shapes of its parts.
        arguments: the scheme's other arguments; axes in it become non-negative.
    """
    if scheme not in ("concatenate", "stack") and len(shapes) != 1:
        check.fail("parts", f"has {len(shapes)} entries; {scheme} takes exactly one")
        return None
    if scheme == "concatenate":
        _check_concatenation(check, shapes, arguments)
    elif scheme == "stack":
        _check_stack(check, shapes, arguments)
    elif scheme == "permute":
        _check_permutation(check, len(shapes[0]), arguments)
    elif scheme == "norm":
        _check_kept(check, len(shapes[0]), arguments)
    elif scheme == "broadcast_to":
        _check_broadcast(check, shape, shapes[0])
    elif scheme == "apply":
        _check_function(check, arguments)
    elif math.prod(shape) != math.prod(shapes[0]):
        check.fail(
            "shape",
            f"is {list(shape)}, {math.prod(shape)} elements; the part has shape "
            f"{list(shapes[0])}, {math.prod(shapes[0])} elements",
        )
    if check.failed:
        return None
    axis, axes = arguments.get("axis", 0), arguments.get("axes", ())
    free = scheme in ("reshape", "broadcast_to")
    made = shape if free else composed_shape(scheme, shapes, axis, axes)
    if made != shape:
        check.fail("shape", f"is {list(shape)}; the parts make {list(made)}, so leave it out")
        return None
    if scheme == "apply":
        return Applied(arguments["function"], arguments["a"], arguments["b"])
    if scheme == "norm":
        return Norm(axes)
    return Composed(scheme, axis, axes)


def _check_concatenation(check: Check, shapes: Sequence[Shape], arguments: dict[str, Any]) -> None:
    first, axis = shapes[0], arguments["axis"]
    if not -len(first) <= axis < len(first):
        check.fail("axis", f"is {axis}, outside the {len(first)} dimensions of the first part")
        return
    arguments["axis"] = axis = axis % len(first)
    for number, shape in enumerate(shapes):
        if len(shape) != len(first) or any(
            a != b for i, (a, b) in enumerate(zip(shape, first, strict=True)) if i != axis
        ):
            check.fail(
                f"parts[{number}].shape",
                f"is {list(shape)}; to join the first part, {list(first)}, along axis {axis} it "
                "must not differ in any other",
            )
            return


def _check_stack(check: Check, shapes: Sequence[Shape], arguments: dict[str, Any]) -> None:
    first, axis = shapes[0], arguments["axis"]
    if not -len(first) - 1 <= axis <= len(first):
        check.fail("axis", f"is {axis}, outside the {len(first) + 1} dimensions of the stack")
        return
    arguments["axis"] = axis % (len(first) + 1)
    for number, shape in enumerate(shapes):
        if shape != first:
            check.fail(
                f"parts[{number}].shape",
                f"is {list(shape)}; all parts of a stack have the first one's, {list(first)}",
            )
            return


def _check_permutation(check: Check, ndim: int, arguments: dict[str, Any]) -> None:
    axes = arguments["axes"]
    normal = tuple(axis % ndim if -ndim <= axis < ndim else axis for axis in axes)
    if sorted(normal) != list(range(ndim)):
        check.fail(
            "axes",
            f"is {list(axes)}; it must name each of the part's {ndim} dimensions, "
            f"0..{ndim - 1}, once",
        )
        return
    arguments["axes"] = normal


def _check_kept(check: Check, ndim: int, arguments: dict[str, Any]) -> None:
    axes = arguments["axes"]
    if any(not -ndim <= axis < ndim for axis in axes) or len({a % ndim for a in axes}) < len(axes):
        check.fail(
            "axes",
            f"is {list(axes)}; it must name dimensions of the part, {-ndim}..{ndim - 1}, once",
        )
        return
    arguments["axes"] = tuple(sorted(axis % ndim for axis in axes))


def _check_broadcast(check: Check, shape: Shape, part: Shape) -> None:
    pairs = zip(reversed(shape), reversed(part), strict=False)
    if len(part) > len(shape) or any(inner not in (1, size) for size, inner in pairs):
        check.fail(
            "shape",
            f"is {list(shape)}, to which a part of shape {list(part)} cannot be broadcast: its "
            "dimensions, from the last one on, must be the tensor's, or 1",
        )


def _check_function(check: Check, arguments: dict[str, Any]) -> None:
    function, a, b = arguments["function"], arguments["a"], arguments["b"]
    if function in ("add", "multiply"):
        if a is None:
            check.fail("a", f"is missing; function {function} needs its number")
        if b is not None:
            check.fail("b", f"is {b!r}, but function {function} takes a alone")
    elif function != "clamp":
        for name in ("a", "b"):
            if arguments[name] is not None:
                text = f"is {arguments[name]!r}, but function {function} takes no number"
                check.fail(name, text)
    elif a is None and b is None:
        check.fail("a", "is missing, and b too; clamp needs one of its bounds")
    elif a is not None and b is not None and a > b:
        check.fail("a", f"is {a}, above b, which is {b}; no value would lie between them")


def boxes(sizes: Sequence[int], first: int, count: int) -> Iterator[Box]:
    """Row-major elements first .. first + count - 1 of an array, as boxes in their order.

    At most 2 * len(sizes) - 1 boxes, or one for a scalar.
    """
    if not count:
        return
    if not sizes:
        yield ()
        return
    inner = math.prod(sizes[1:])
    row, inside = divmod(first, inner)
    if inside:
        head = min(count, inner - inside)
        for box in boxes(sizes[1:], inside, head):
            yield ((row, row + 1), *box)
        row, count = row + 1, count - head
    rows, tail = divmod(count, inner)
    if rows:
        yield ((row, row + rows), *((0, size) for size in sizes[1:]))
    for box in boxes(sizes[1:], 0, tail):
        yield ((row + rows, row + rows + 1), *box)


def shares(content: Composed, shapes: Sequence[Shape], box: Box) -> Iterator[tuple[int, Box, Any]]:
    """The boxes of the parts that make a box of the composed tensor; not for `reshape`.

    Yields:
        (number, box, view): the part's number, its box, and a function from an array of the
        composed box to the view that holds the part's box, with the part's order of axes.
    """
    if content.scheme == "permute":
        inverse = tuple(content.axes.index(axis) for axis in range(len(content.axes)))
        yield 0, tuple(box[axis] for axis in inverse), lambda out: out.transpose(inverse)
        return
    if content.scheme == "broadcast_to":
        inside = box[len(box) - len(shapes[0]) :]
        pairs = zip(inside, shapes[0], strict=True)
        # A view of the whole box: values of the part's box are broadcast into it.
        yield 0, tuple((0, 1) if size == 1 else each for each, size in pairs), _at((...,))
        return
    axis = content.axis
    low, high = box[axis]
    before: tuple[slice, ...] = (slice(None),) * axis
    if content.scheme == "stack":
        for number in range(low, high):
            index: Any = (*before, number - low)
            # `...` gives a view, even where the part is a scalar.
            yield number, box[:axis] + box[axis + 1 :], _at((*index, ...))
        return
    begin = 0
    for number, part in enumerate(shapes):
        if begin >= high:
            break
        end = begin + part[axis]
        start, stop = max(low, begin), min(high, end)
        if start < stop:
            inside = (*box[:axis], (start - begin, stop - begin), *box[axis + 1 :])
            yield number, inside, _at((*before, slice(start - low, stop - low)))
        begin = end


def reshaped(shape: Shape, part: Shape, box: Box) -> Iterator[list[Box]]:
    """The boxes of a part that make a box of the reshaped tensor, run by run.

    Yields:
        For each run of consecutive elements of the box, in row-major order, the part's boxes
        that hold them, in order.
    """
    inner = len(shape)
    while inner > 0 and box[inner - 1] == (0, shape[inner - 1]):
        inner -= 1
    inner = max(inner - 1, 0)
    length = math.prod(stop - start for start, stop in box[inner:])
    if not length:
        return
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    base = sum(start * stride for (start, _), stride in zip(box, strides, strict=True))
    outer = [stop - start for start, stop in box[:inner]]
    for row in range(math.prod(outer)):
        first, rest = base, row
        for size, stride in zip(reversed(outer), reversed(strides[:inner]), strict=True):
            rest, place = divmod(rest, size)
            first += place * stride
        yield list(boxes(part, first, length))


def _at(index: tuple[Any, ...]) -> Any:
    return lambda out: out[index]
