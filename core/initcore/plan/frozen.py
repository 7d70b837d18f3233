"""A dict that does not change, for the fields of values."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class FrozenDict(dict[_K, _V]):
    """A dict that does not change.

    A dict, unlike a `MappingProxyType`, can be pickled, copied and turned into plain values by
    `dataclasses.asdict`; since it does not change, it has a hash, if its values have one.
    """

    refusal: ClassVar[str] = "the fields of a value do not change; make another value"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(self.refusal)

    __setitem__ = __delitem__ = _refuse
    __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        # Of the items in any order, as dicts are compared.
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not item by item, which this class refuses.
        return type(self), (dict(self),)
