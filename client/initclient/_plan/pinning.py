"""Pins a tensor to the stream of its current name, so that renaming keeps its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from initcore import Tensor
from initcore.plan import COMPOSED, SCHEMES, with_plain


def pinned(tensor: Tensor, name: str) -> Tensor:
    """The tensor with its stream (for `pretrained`: its source) set to its current name.

    Args:
        tensor: a tensor of a plan.
        name: its name in the plan.
    """
    scheme = SCHEMES.get(tensor.scheme)
    if scheme is None or scheme.draws:
        return with_plain(tensor, stream=name) if tensor.stream is None else tensor
    if tensor.scheme == "pretrained" and tensor.source is None:
        return with_plain(tensor, source=name)
    # Composed of parts, which have names of their own.
    return tensor


def owned(tensor: Tensor, owner: str) -> Tensor:
    """The tensor with its random parts' streams named under its owner, such as "fc.weight/q".

    A part's stream is its own name otherwise, so that one function of the shape, used for
    several tensors, would give them all the same values. Parts with a stream of their own keep
    it; a seed does not tell tensors apart.

    Args:
        tensor: a tensor, composed or not.
        owner: its name in the plan.

    Raises:
        TypeError: if two parts within different ones would have one stream, which only names
            with slashes in them bring about.
    """
    if tensor.scheme not in COMPOSED:
        return tensor
    made = _with_streams(tensor, owner)
    paths: dict[str, tuple[str, ...]] = {}
    for stream, path in _owned(made, owner):
        if paths.setdefault(stream, path) != path:
            raise TypeError(
                f"two of its parts would share the stream {stream!r}; give them names without "
                "slashes, or streams"
            )
    return made


def is_random(tensor: Tensor) -> bool:
    """Whether values of the tensor, or of a part of it, come from a random stream."""
    if tensor.scheme in COMPOSED:
        return any(is_random(part) for _, part in tensor.parts or () if isinstance(part, Tensor))
    scheme = SCHEMES.get(tensor.scheme)
    return scheme is not None and scheme.draws and tensor.scheme not in _FIXED


def new_streams(made: Mapping[str, Tensor]) -> list[str]:
    """A sentence on parts that drew from the stream of their bare name before 0.3.0, if any.

    Args:
        made: what rules made, by name.
    """
    found = {name: first for name, one in made.items() if (first := next(_owned(one, name), None))}
    if not found:
        return []
    name, (stream, path) = next(iter(found.items()))
    rest = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    return [
        f"the parts of {name}{rest} have streams under the tensor's name since 0.3.0, as "
        f"{stream!r}, where they had {path[-1]!r}, and so other values; give the part "
        f"stream={path[-1]!r} to keep the old ones"
    ]


def _with_streams(tensor: Tensor, owner: str) -> Tensor:
    parts = tuple((name, _under(part, f"{owner}/{name}")) for name, part in tensor.parts or ())
    return with_plain(tensor, parts=parts or None)


def _under(part: Tensor, name: str) -> Tensor:
    if not isinstance(part, Tensor):
        # Wrong, as the check of the plan says.
        return part
    if part.scheme in COMPOSED:
        return _with_streams(part, name)
    if part.stream is not None or not is_random(part):
        return part
    return with_plain(part, stream=name)


def _owned(
    tensor: Tensor, owner: str, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The streams that `owned` has named, each with the names that lead to its part."""
    for name, part in tensor.parts or ():
        if not isinstance(part, Tensor):
            continue
        if part.scheme in COMPOSED:
            yield from _owned(part, f"{owner}/{name}", (*path, name))
        elif part.stream == f"{owner}/{name}":
            yield part.stream, (*path, name)


# Schemes without anything random.
_FIXED = frozenset({"constant", "ones", "zeros", "eye", "identity", "dirac", "hadamard", "literal"})
