"""The fields of a plan file: each takes what its builder takes, and names in any common spelling.

Protobuf's own reader is laxer: it takes true as the number 1, text as a number, 4.0 as an integer,
a number for a name. `PlanFields` refuses these, and hands on a form that protobuf reads in one way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from initserve.v1 import plan_pb2

from initcore.dtypes import canonical_name
from initcore.errors import Violation
from initcore.plan import REALS, suggestion
from initcore.resolve import MAX_DEPTH
from initcore.wire.plan_text import NUMBER, Misread, Spelled, Unquoted

# Any in place of a field's type: protobuf has two, one for each of its implementations.
_TENSOR = plan_pb2.Tensor.DESCRIPTOR
_EMPTY = plan_pb2.Tensor()
_REPEATED = {f.name for f in _TENSOR.fields if hasattr(getattr(_EMPTY, f.name), "extend")}
_SHAPED_BY_PARTS = ("CONCATENATE", "STACK", "PERMUTE")

_NAMES = {
    field.name: [value.name for value in field.enum_type.values if value.number]
    for field in _TENSOR.fields
    if field.enum_type is not None
}
# A text, as each value is.
_PROVENANCE = _TENSOR.fields_by_name["stream"]
_SHOWN = 16
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_INTEGERS = "a list of integers, such as [4096, 1024]"
EXPECTED = {
    "seed": "an integer within 0..2^64-1",
    "provenance": 'a mapping from text to text, such as {torch: "2.13.0"}',
    "name": "text",
    "stream": "text",
    "shape": _INTEGERS,
    "batch_axes": _INTEGERS,
    "slices": "a list with {start: ..., stop: ...} or {} for each dimension",
    "groups": "an integer",
    "zero_rows": "a list of integers, such as [0]",
    "parts": "a list of tensors, each a mapping with name, shape and scheme",
    "axis": "an integer",
    "axes": "a list of integers, such as [1, 0]",
    "checkpoint": "text",
    "source": "text",
    "values": "a list of finite numbers, such as [0.5, 1.0]",
    "sha256": "text of 64 hexadecimal digits",
    "relative": "true or false",
    **dict.fromkeys(REALS, "a finite number"),
}
"""What each field takes, for messages."""


class PlanFields:
    """Checks the fields of one tensor of a plan file, or of the plan.

    Args:
        name: the tensor's name, "" for the plan.
        index: its position in the plan.
        quoted: whether integers of 64 bits may be in quotes, as protobuf's own JSON has them.
    """

    def __init__(self, name: str, index: int | None, *, quoted: bool = False) -> None:
        self.violations: list[Violation] = []
        self._name = name
        self._index = index
        self._quoted = quoted

    def seed(self, value: Any) -> Any:
        """The plan's seed, for protobuf."""
        if value is None:
            self._fail("seed", f"is null; it must be {EXPECTED['seed']}, or left out for 0")
            return 0
        return self._take("seed", plan_pb2.Plan.DESCRIPTOR.fields_by_name["seed"], value)

    def provenance(self, form: Any) -> dict[str, str]:
        """Where the plan came from: text by key."""
        if not isinstance(form, dict):
            self._fail("provenance", f"{_is(form)}; it must be {EXPECTED['provenance']}")
            return {}
        clean = {}
        for key, value in form.items():
            if type(key) not in (str, Unquoted) or not key:
                text = f"has the key {_plain(key)!r}; it must be {EXPECTED['provenance']}"
                self._fail("provenance", text)
                continue
            made = self._take(f"provenance.{key}", _PROVENANCE, value)
            if made is not None:
                clean[str(key)] = made
        return clean

    def tensor(self, form: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
        """A tensor's mapping, for protobuf; null is left out, as None is the default in Python."""
        clean: dict[str, Any] = {}
        fields = known_fields(_TENSOR)
        wrong = unknown_keys(form, _TENSOR)
        for key, text in wrong.items():
            self._fail(f"{prefix}{key}", text)
        for key, value in form.items():
            field = fields.get(key)
            if field is None or key in wrong or value is None:
                continue
            made = self._field(prefix + str(key), field, value, prefix)
            if made is not None:
                clean[field.name] = made
        if not wrong and form.get("name") is None:
            self._fail(f"{prefix}name", "is missing; every tensor has a name of its own")
        shaped = form.get("shape") is not None
        if not wrong and not shaped and clean.get("scheme") not in _SHAPED_BY_PARTS:
            self._fail(f"{prefix}shape", "is missing; give a list of sizes, or [] for a scalar")
        return clean

    def _field(self, path: str, field: Any, value: Any, prefix: str) -> Any:
        if field.name not in _REPEATED:
            return self._take(path, field, value)
        if not isinstance(value, list):
            self._fail(path, f"{_is(value)}; it must be {EXPECTED[field.name]}")
            return None
        if field.name == "parts":
            return self._parts(path, value, prefix)
        if field.name == "slices":
            return self._slices(path, value)
        return [self._take(path, field, item, value) for item in value]

    def _parts(self, path: str, parts: list[Any], prefix: str) -> list[Any]:
        if prefix.count("parts") >= MAX_DEPTH:
            self._fail(path, f"are nested more than {MAX_DEPTH} deep")
            return []
        clean = []
        for number, part in enumerate(parts):
            inner = f"{path}[{number}]"
            if isinstance(part, dict):
                clean.append(self.tensor(part, f"{inner}."))
            else:
                self._fail(inner, f"{_is(part)}; it must be a mapping with name, shape and scheme")
        return clean

    def _slices(self, path: str, entries: list[Any]) -> list[Any]:
        fields = known_fields(plan_pb2.Slice.DESCRIPTOR)
        clean = []
        for entry in entries:
            if not isinstance(entry, dict) or not set(entry) <= set(fields):
                self._fail(path, f"has {entry!r}; it must be {EXPECTED['slices']}")
                return []
            bounds = {key: value for key, value in entry.items() if value is not None}
            clean.append({k: self._take(path, fields[k], v, entry) for k, v in bounds.items()})
        return clean

    def _take(self, path: str, field: Any, value: Any, whole: Any = None) -> Any:
        """One value, for protobuf; `whole` is the list or the mapping that holds it."""
        try:
            return _KINDS[field.cpp_type](field, value, self._quoted)
        except ValueError as error:
            # Only the first of a list's: a shape has one place in the file.
            if whole is None:
                self._fail(path, str(error))
            elif not any(violation.field == path for violation in self.violations):
                entry = f"is {_plain(whole)}; it must be {EXPECTED[path.rpartition('.')[2]]}"
                self._fail(path, f"{entry}; an entry {error}")
            return None

    def _fail(self, path: str, message: str) -> None:
        self.violations.append(Violation(self._name, path, message, self._index))


@cache
def known_fields(descriptor: Any) -> dict[str, Any]:
    """A message's fields by the names that plan files may use."""
    return {**descriptor.fields_by_name, **{f.json_name: f for f in descriptor.fields}}


def unknown_keys(form: dict[Any, Any], descriptor: Any) -> dict[Any, str]:
    """The keys that the message does not have, or that are there twice, and why they are wrong."""
    fields = known_fields(descriptor)
    wrong = {}
    for key in form:
        field = fields.get(key)
        if field is None:
            hint = suggestion(key, descriptor.fields_by_name)
            wrong[key] = f"there is no such field: {hint}"
        elif key != field.name and field.name in form:
            wrong[key] = f"is there twice, as {field.name} too"
    return wrong


def _text(field: Any, value: Any, quoted: bool) -> str:
    if value == "":
        raise ValueError("is empty; it must have at least one character")
    if type(value) in (str, Unquoted):
        return str(value)
    shown = value.text if isinstance(value, Misread) else value
    if isinstance(value, Misread) and value.kind == "blank":
        raise ValueError("is blank; it must be text")
    if isinstance(value, Misread | bool | int | float):
        raise ValueError(f"{_is(value)}; it must be text: put it in quotes, '{shown}'")
    raise ValueError(f"{_is(value)}; it must be text")


def _real(field: Any, value: Any, quoted: bool) -> float | int:
    expected = EXPECTED[field.name]
    if field.name == "val" and isinstance(value, bool):
        # As in the builder: BOOL tensors are filled with true.
        return int(value)
    if isinstance(value, Unquoted | Spelled):
        written = value.text if isinstance(value, Spelled) else str(value)
        value = float(value)
        if value == 0 and _NONZERO.match(written):
            raise ValueError(f"is {written}, which a double rounds to 0; write 0 if it is meant")
    if type(value) is int:
        if _is_inexact(value):
            raise ValueError(f"is {value}, which no double holds exactly")
        return value
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(_not_a_number(value, expected))
    return value


def _integer(field: Any, value: Any, quoted: bool) -> int:
    of_64_bits = field.cpp_type != FieldDescriptor.CPPTYPE_INT32
    if quoted and of_64_bits and type(value) is str and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        name = field.name if field.name == "seed" else "axis"
        raise ValueError(_not_a_number(value, EXPECTED[name]))
    low, high = _RANGES[field.cpp_type]
    if not low <= value <= high:
        within = EXPECTED["seed"] if field.name == "seed" else f"an integer within {low}..{high}"
        raise ValueError(f"is {value}; it must be {within}")
    return value


def _truth(field: Any, value: Any, quoted: bool) -> bool:
    if isinstance(value, Misread) and value.kind == "truth value":
        # `yes` and `off` say what YAML reads.
        value = value.value
    if not isinstance(value, bool):
        raise ValueError(f"{_is(value)}; it must be true or false")
    return value


def _name(field: Any, value: Any, quoted: bool) -> str:
    known = _NAMES[field.name]
    if isinstance(value, str):
        name = canonical_name(value) if field.name == "dtype" else value.upper()
        # Capitals of other letters are ASCII too: of the dotless i, of the long s.
        if name in known and value.isascii():
            return name
        raise ValueError(f"{value!r} is not known: {suggestion(value, known)}")
    found = f"is the number {value}" if type(value) is int else _is(value)
    raise ValueError(f"{found}; it must be one of {', '.join(known)}")


_KINDS: dict[int, Callable[[Any, Any, bool], Any]] = {
    FieldDescriptor.CPPTYPE_STRING: _text,
    FieldDescriptor.CPPTYPE_DOUBLE: _real,
    FieldDescriptor.CPPTYPE_INT32: _integer,
    FieldDescriptor.CPPTYPE_INT64: _integer,
    FieldDescriptor.CPPTYPE_UINT64: _integer,
    FieldDescriptor.CPPTYPE_BOOL: _truth,
    FieldDescriptor.CPPTYPE_ENUM: _name,
}
# Digits before the exponent, one of which counts.
_NONZERO = re.compile(r"[-+_.0]*[1-9]")
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def _not_a_number(value: Any, expected: str) -> str:
    text = f"{_is(value)}; it must be {expected}"
    if isinstance(value, str) and NUMBER.fullmatch(value) and not isinstance(value, Unquoted):
        return f"{text}: without quotes, {value}"
    if isinstance(value, Misread) and value.kind == "number":
        return f"{text}, in decimal digits alone"
    return text


def _is(value: Any) -> str:
    """The value found, as the beginning of a sentence."""
    if not isinstance(value, Misread):
        return f"is {value!r}"
    if value.kind == "blank":
        return "is blank"
    if value.kind == "date":
        return f"is {value.text}, which YAML reads as a date"
    return f"is {value.text}, which YAML reads as {_plain(value)}"


def _plain(value: Any) -> str:
    """A value for a message, with what was misread as it is written."""
    if isinstance(value, Misread):
        return str(value.value).lower() if isinstance(value.value, bool) else str(value.value)
    if isinstance(value, list):
        shown = [v.text if isinstance(v, Misread) else repr(v) for v in value[:_SHOWN]]
        return f"[{', '.join([*shown, *['...'][: len(value) - _SHOWN]])}]"
    if isinstance(value, dict):
        pairs = (f"{k}: {v.text if isinstance(v, Misread) else v!r}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    return repr(value)


def _is_inexact(value: int) -> bool:
    try:
        return int(float(value)) != value
    except OverflowError:
        return True
