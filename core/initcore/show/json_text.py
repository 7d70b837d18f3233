"""A description as JSON text, without the json module's walk through every field.

Tensors that differ in name and place alone, as those of a model's layers, share the text of their
other fields.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter

from initcore.show.description import Description, TensorDescription

_OWN = ("name", "begin", "end", "fingerprint")
_SHARED = tuple(name for name in TensorDescription.__dataclass_fields__ if name not in _OWN)
_shared = attrgetter(*(name for name in _SHARED if name != "parts"))

# Kinds of tensors whose text is cached; models have a few.
_MAX_KINDS = 4096

_text: Callable[[str], str] = json.encoder.encode_basestring_ascii


def json_text(description: Description) -> Iterator[str]:
    """The text of `json.dumps(description.to_dict(), indent=2)`, in pieces."""
    if not description.tensors:
        yield json.dumps(description.to_dict(), indent=2)
        return
    whole = {**replace(description, tensors=()).to_dict(), "tensors": [_HOLE]}
    before, after = json.dumps(whole, indent=2).split(f"    {json.dumps(_HOLE)}", 1)
    yield before
    kinds: dict[bytes, str] = {}
    separator = ""
    for tensor in description.tensors:
        yield separator + _tensor(tensor, kinds)
        separator = ",\n"
    yield after


def _tensor(tensor: TensorDescription, kinds: dict[bytes, str]) -> str:
    key = None if tensor.parts else marshal.dumps(_shared(tensor), 2)
    form = None if key is None else kinds.get(key)
    if form is None:
        form = _form(tensor)
        if key is not None and len(kinds) < _MAX_KINDS:
            kinds[key] = form
    fingerprint = "null" if tensor.fingerprint is None else _text(tensor.fingerprint)
    own = (_text(tensor.name), tensor.begin, tensor.end, fingerprint)
    return form % own


def _form(tensor: TensorDescription) -> str:
    """The text of a tensor with %s in place of its own fields, in their order."""
    form = {**tensor.to_dict(), **dict.fromkeys(_OWN, _HOLE)}
    text = json.dumps(form, indent=2).replace("%", "%%").replace(json.dumps(_HOLE), "%s")
    return "\n".join(f"    {line}" for line in text.split("\n"))


# Not in any other text: checkpoints and parts have names of valid Unicode.
_HOLE = "\ud800"
