"""From a plan to resolved tensors: defaults, fans, gains, bounds, the stream.

All parameters are computed in IEEE double with `+ - * / sqrt` in a fixed order and
rounded to float32 once (docs/stream-v1.md), so every machine resolves a plan alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from initcore.dtypes import DTYPES, DType
from initcore.errors import PlanError
from initcore.plan import (
    COMPOSED,
    REALS,
    SCHEMES,
    Check,
    Plan,
    Tensor,
    check_kind,
    check_name,
    check_place,
    check_seed,
    is_plain_entry,
    kind_key,
    retyped,
)
from initcore.resolve.composition import MAX_DEPTH, compose
from initcore.resolve.contents import Applied, Content, Norm, Pretrained
from initcore.resolve.distributions import Parameters
from initcore.resolve.kinds import MAX_MATRIX_ELEMENTS, Kind, kind_of
from initcore.resolve.ranges import Range, check_domain, check_image, range_of

# A plan can be wrong in every field of every tensor; collecting more would only take memory.
_MAX_VIOLATIONS = 10_000

# Tensors that stand for others alike, at most: models have a few kinds.
_MAX_FIRST = 4096


@dataclass(frozen=True)
class Resolved:
    """A tensor with all defaults filled in and all parameters computed.

    Attributes:
        name: its name in the file.
        stream_name: its name in the random stream.
        seed: its seed.
        dtype: its element type.
        shape: shape of the whole tensor.
        bounds: (start, stop) for each dimension of the wanted part.
        scheme: its scheme's name.
        arguments: every argument of the scheme, defaults filled in.
        content: what its elements are made from.
        parameters: fans, mean, standard deviation and bounds, to be shown.
        warnings: unusual but allowed settings, as sentences.
        zero_rows: positions of the first dimension that are zero, in ascending order.
        parts: what a composed tensor is made of.
    """

    name: str
    stream_name: str
    seed: int
    dtype: DType
    shape: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]
    scheme: str
    # A dict has no hash; equality compares it.
    arguments: dict[str, Any] = field(hash=False)
    content: Content
    parameters: Parameters
    warnings: tuple[str, ...]
    zero_rows: tuple[int, ...] = ()
    parts: tuple[Resolved, ...] = ()

    @cached_property
    def shard_shape(self) -> tuple[int, ...]:
        """Shape of the wanted part."""
        return tuple(stop - start for start, stop in self.bounds)

    def under(self, name: str, stream: str | None = None) -> Resolved:
        """The same tensor with another name, which also names its stream if none is given.

        Faster than `dataclasses.replace`, and it keeps the cached properties.
        """
        other, its = object.__new__(Resolved), self.__dict__.copy()
        its["name"] = name
        its["stream_name"] = name if stream is None else stream
        object.__setattr__(other, "__dict__", its)
        return other

    @cached_property
    def range(self) -> Range | None:
        """The least and the greatest value that an element can have; None if in a checkpoint."""
        if 0 in self.shape and not _is_stored(self):
            return 0.0, 0.0
        inner = [p.range for p in self.parts if 0 not in p.shape or _is_stored(p)]
        # Elements of the parts for one of the tensor, which a norm adds up.
        row = sum(math.prod(p.shape) for p in self.parts) // max(math.prod(self.shape), 1)
        zero_rows = bool(self.zero_rows)
        return range_of(self.content, self.parameters, inner, zero_rows, row, self.dtype.name)

    @property
    def is_whole(self) -> bool:
        """Whether the wanted part is the whole tensor."""
        return self.shard_shape == self.shape

    @cached_property
    def count(self) -> int:
        """Elements of the wanted part."""
        return math.prod(self.shard_shape)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the wanted part."""
        return self.count * self.dtype.itemsize


def resolve(plan: Plan, max_matrix_elements: int = MAX_MATRIX_ELEMENTS) -> list[Resolved]:
    """The resolved tensors of a plan, in the plan's order.

    Args:
        plan: the plan.
        max_matrix_elements: the largest matrix that schemes which need one whole may have.

    Raises:
        PlanError: with all violations of the plan (the first ten thousand, if there are more),
            before any value is computed.
    """
    top = Check("", None)
    check_seed(top, plan.seed)
    violations = top.violations
    resolved = []
    resolver = _Resolver(max_matrix_elements)
    for index, (name, tensor) in enumerate(plan.tensors.items()):
        one = resolver.alike(name, tensor, plan.seed)
        if one is not None:
            resolved.append(one)
            continue
        check = Check(name, index)
        one = resolver.tensor(check, name, tensor, plan.seed)
        if one is not None:
            resolved.append(one)
        violations += check.violations
        if len(violations) >= _MAX_VIOLATIONS:
            break
    if violations:
        raise PlanError(violations)
    return resolved


class _Resolver:
    """Resolves the tensors of one plan."""

    def __init__(self, max_matrix_elements: int) -> None:
        self._max_matrix_elements = max_matrix_elements
        # Models repeat themselves: a plan of a thousand layers has a few kinds of tensors.
        self._kinds: dict[str, Kind] = {}
        # The first resolved tensor of those that differ in name and stream alone, by the fields
        # that they share, and by the identity of the plan's tensor, which lives as long as the
        # plan; with the seed around it.
        self._first: dict[tuple[bytes | int, int], Resolved] = {}
        # The parts of `apply` as F64, by the identity of the plan's tensor, which lives as above.
        self._wide: dict[int, Tensor] = {}

    def alike(self, name: str, tensor: Tensor, seed: int) -> Resolved | None:
        """A tensor made from an earlier one that differs in name and stream alone.

        Without it a plan of many small tensors would take longer to check than to draw. None if
        there is no earlier one, and for a name or a stream that has to be looked at in full.
        """
        if not is_plain_entry(name, tensor):
            return None
        first = self._first.get((id(tensor), seed))
        if first is None:
            key = kind_key(tensor)
            first = None if key is None else self._first.get((key, seed))
        return None if first is None else first.under(name, tensor.stream)

    def tensor(
        self, check: Check, name: str, tensor: Tensor, seed: int, depth: int = 0
    ) -> Resolved | None:
        """One tensor; None if it is wrong, with the violations in `check`."""
        known = self.alike(name, tensor, seed)
        if known is not None:
            return known
        check_name(check, name)
        if not isinstance(tensor, Tensor):
            check.fail("scheme", f"the entry is {tensor!r}; make it with a builder such as zeros()")
            return None
        if isinstance(tensor.scheme, str) and tensor.scheme in COMPOSED:
            return self._composed(check, name, tensor, seed, depth)
        kind = self._kind(check, tensor)
        check_place(check, tensor)
        if kind is None or check.failed:
            return None
        one = _place(kind, name, tensor, seed)
        if not kind.warnings and not isinstance(kind.content, Pretrained):
            self._keep(one, tensor, seed)
        return one

    def _keep(self, one: Resolved, tensor: Tensor, seed: int) -> None:
        key = kind_key(tensor)
        if key is None:
            return
        if len(self._first) >= _MAX_FIRST:
            self._first.clear()
        self._first[key, seed] = self._first[id(tensor), seed] = one
        # Sizes are computed once here, and shared by all tensors made from this one.
        one.nbytes  # noqa: B018

    def _kind(self, check: Check, tensor: Tensor) -> Kind | None:
        # As text, which tells 0.0 from -0.0 and 1 from True; as values they are equal. The text
        # is exact: valid arguments are Python's own numbers and strings.
        key = repr((tensor.scheme, tensor.shape, tensor.dtype, tensor.given()))
        kind = self._kinds.get(key) or kind_of(check, tensor, key, self._max_matrix_elements)
        if kind is not None and not check.failed:
            self._kinds[key] = kind
        return kind

    def _composed(
        self, check: Check, name: str, tensor: Tensor, seed: int, depth: int
    ) -> Resolved | None:
        check_kind(check, tensor)
        if depth == MAX_DEPTH:
            check.fail("parts", f"are nested more than {MAX_DEPTH} deep")
        if check.failed:
            return None
        own_seed = seed if tensor.seed is None else tensor.seed
        wide = "F64" if tensor.scheme == "apply" else tensor.dtype
        parts = []
        for number, (part_name, part) in enumerate(tensor.parts or ()):
            inner = check.part(number)
            if tensor.scheme == "apply":
                part = self._widened(inner, part, tensor.dtype)
            one = self.tensor(inner, part_name, part, own_seed, depth + 1)
            if one is not None and part.slices is not None:
                inner.fail("slices", "are given; parts are whole, and slices cut the result")
            if one is not None and one.dtype.name not in (tensor.dtype, wide):
                inner.fail(
                    "dtype", f"is {one.dtype.name}; the tensor it is a part of has {tensor.dtype}"
                )
            check.violations += inner.violations
            if len(check.violations) >= _MAX_VIOLATIONS:
                break
            if one is not None:
                parts.append(one)
        if check.failed:
            return None
        arguments = {**SCHEMES[tensor.scheme].arguments, **tensor.given()}
        del arguments["parts"]
        for real in REALS:
            if arguments.get(real) is not None:
                arguments[real] = float(arguments[real])
        shapes = [part.shape for part in parts]
        content = compose(check, tensor.scheme, tensor.shape, shapes, arguments)
        check_place(check, tensor)
        if isinstance(content, Applied) and not check.failed and 0 not in tensor.shape:
            check_domain(check, content.function, parts[0].range, parts[0].name)
        if content is None or check.failed:
            return None
        derived = isinstance(content, Applied | Norm)
        alike = not derived and all(part.parameters == parts[0].parameters for part in parts)
        kind = Kind(arguments, content, parts[0].parameters if alike else Parameters(), ())
        warnings = tuple(dict.fromkeys(text for part in parts for text in part.warnings))
        whole = replace(_place(kind, name, tensor, seed), parts=tuple(parts), warnings=warnings)
        if derived:
            check_image(check, tensor.scheme, whole.range, tensor.dtype)
        return None if check.failed else whole

    def _widened(self, check: Check, part: Tensor, dtype: str) -> Tensor:
        """A part of `apply` as F64, whose functions compute in double."""
        if not isinstance(part, Tensor):
            return part
        if part.dtype not in (dtype, "F64"):
            check.fail("dtype", f"is {part.dtype}; the tensor it is a part of has {dtype}")
        found = self._wide.get(id(part))
        if found is None:
            found = self._wide[id(part)] = retyped(part, "F64")
        return found


def _place(kind: Kind, name: str, tensor: Tensor, seed: int) -> Resolved:
    content, arguments = kind.content, kind.arguments
    if isinstance(content, Pretrained):
        content = replace(content, source=content.source or name)
        arguments = {**arguments, "source": content.source, "sha256": content.sha256}
    return Resolved(
        name=name,
        stream_name=name if tensor.stream is None else tensor.stream,
        seed=seed if tensor.seed is None else tensor.seed,
        dtype=DTYPES[tensor.dtype],
        shape=tensor.shape,
        bounds=_full_bounds(tensor.shape, tensor.slices),
        scheme=tensor.scheme,
        arguments=arguments,
        content=content,
        parameters=kind.parameters,
        warnings=tuple(f"tensor {name!r}: {text}" for text in kind.warnings),
        zero_rows=tuple(sorted(set(tensor.zero_rows or ()))),
    )


def _is_stored(tensor: Resolved) -> bool:
    """Whether values of it are in a checkpoint."""
    return isinstance(tensor.content, Pretrained) or any(map(_is_stored, tensor.parts))


def _full_bounds(
    shape: Sequence[int], slices: Sequence[tuple[int | None, int | None]] | None
) -> tuple[tuple[int, int], ...]:
    if slices is None:
        return tuple((0, size) for size in shape)
    return tuple(
        (0 if start is None else start, size if stop is None else stop)
        for (start, stop), size in zip(slices, shape, strict=True)
    )
