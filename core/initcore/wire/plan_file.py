"""Plan files: the JSON form of the plan message, written as YAML or JSON."""

from __future__ import annotations

import json
import marshal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from initserve.v1 import plan_pb2

from initcore.errors import PlanError, Violation
from initcore.plan import Plan, Tensor
from initcore.wire.conversion import Item, Reading, to_proto
from initcore.wire.names import is_plain
from initcore.wire.plan_fields import EXPECTED, PlanFields, unknown_keys
from initcore.wire.plan_text import Lines, Misread, read_text
from initcore.wire.repeated_items import parse_repeated
from initcore.wire.simple_items import fields_of, kept, simple_items
from initcore.wire.whole_file import write_whole

# Kinds of items that are cached while a plan is read or written; models have a few.
_MAX_KINDS = 4096


def load_plan(path: str | Path) -> Plan:
    """Reads a plan file.

    Args:
        path: a `.yaml`, `.yml` or `.json` file; other names are read as YAML, of which
            JSON is a part.

    Raises:
        OSError: if the file cannot be read.
        PlanError: if it is not a plan, naming line, tensor and field.
    """
    written = Path(path).read_bytes()
    try:
        text = written.decode()
    except UnicodeDecodeError as error:
        message = (
            f"{path} is not text in UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8"
        )
        line = written.count(b"\n", 0, error.start) + 1
        raise PlanError([Violation("", "file", message, line=line)]) from error
    return parse_plan(text, source=str(path))


def parse_plan(text: str, source: str = "the text") -> Plan:
    """The plan in the text of a plan file; `source` names it in errors.

    Raises:
        PlanError: if it is not a plan, naming line, tensor and field.
    """
    # Some editors begin a file with a byte order mark, which JSON does not have.
    text = text.removeprefix("\ufeff")
    plan = parse_repeated(text, parse_plan)
    if plan is None:
        plan = _parse_simple(text)
    if plan is not None:
        return plan
    form, is_json = read_text(text, source)
    try:
        # Protobuf's own JSON has integers of 64 bits in quotes.
        return plan_from_form(form, source, quoted=is_json)
    except PlanError as error:
        lines = Lines(text)
        places = [violation.path for violation in error.violations]
        placed = zip(error.violations, map(lines.of, places), strict=True)
        raise PlanError([replace(violation, line=line) for violation, line in placed]) from None


def _parse_simple(text: str) -> Plan | None:
    """The plan in a text in the simple form that is right; None for any other text."""
    found = simple_items(text)
    if found is None:
        return None
    tensors: dict[str, Tensor] = {}
    for name, rest in found.items:
        tensor = _tensor_of(rest)
        if tensor is None:
            return None
        tensors[name] = tensor
    provenance = _provenance_of(found.provenance) if found.provenance else {}
    return None if provenance is None else Plan(tensors, found.seed, provenance=provenance)


@kept
def _tensor_of(rest: str) -> Tensor | None:
    """The tensor that the rest of a simple item is; None if it is wrong, or has another form."""
    fields = fields_of(rest)
    if fields is None or "name" in fields:
        return None
    try:
        plan = plan_from_form({"tensors": [{"name": _STAND_IN, **fields}]})
    except PlanError:
        return None
    return plan.tensors[_STAND_IN]


def _provenance_of(lines: str) -> Mapping[str, str] | None:
    """Where a plan came from; None if it is wrong, or has another form."""
    fields = fields_of(lines)
    if fields is None:
        return None
    try:
        return plan_from_form({"provenance": fields}).provenance
    except PlanError:
        return None


# The name of a tensor whose name is of no account.
_STAND_IN = "x"


def plan_from_form(form: Any, source: str = "the plan", *, quoted: bool = False) -> Plan:
    """The plan in a parsed plan file: a mapping with `seed` and `tensors`.

    Args:
        form: the mapping.
        source: names it in errors.
        quoted: whether integers of 64 bits may be in quotes.

    Raises:
        PlanError: if it is not a plan, naming tensor and field.
    """
    if not isinstance(form, dict):
        text = f"{source} has no keys; a plan has the keys seed and tensors"
        raise PlanError([Violation("", "file", text)])
    wrong = unknown_keys(form, plan_pb2.Plan.DESCRIPTOR)
    reading = Reading()
    violations = reading.violations
    violations += [Violation("", str(key), text) for key, text in wrong.items()]
    items = form.get("tensors", [])
    if not isinstance(items, list):
        found = "blank" if isinstance(items, Misread) else repr(items)
        text = f"is {found}; it must be a list of tensors, [] for none"
        violations.append(Violation("", "tensors", text))
        items = []
    whole_seed = 0
    if "seed" in form:
        fields = PlanFields("", None, quoted=quoted)
        whole_seed = fields.seed(form["seed"])
        violations += fields.violations
    provenance: dict[str, str] = {}
    if form.get("provenance") is not None:
        fields = PlanFields("", None, quoted=quoted)
        provenance = fields.provenance(form["provenance"])
        violations += fields.violations
    kinds: dict[bytes, Item] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            text = f"is {item!r}; it must be a mapping with name, shape and scheme"
            violations.append(Violation("", f"tensors[{index}]", text))
            continue
        name = item.get("name")
        key = None
        if type(name) is str and name.isascii() and name:
            key = _kind_key(item)
            if key in kinds:
                reading.add(index, kinds[key]._replace(name=name))
                continue
        name = name.text if isinstance(name, Misread) else "" if name is None else str(name)
        fields = PlanFields(name, index, quoted=quoted)
        clean = fields.tensor(item)
        message = plan_pb2.Tensor()
        faults = fields.violations or _parsed(clean, message, name, index)
        violations += faults
        if faults and name:
            reading.take_name(index, name)
        if not faults:
            read = Item.of(message)
            reading.add(index, read)
            if key is not None and len(kinds) < _MAX_KINDS:
                kinds[key] = read
    # A wrong seed is among the violations already.
    return reading.plan(whole_seed or 0, provenance)


def _kind_key(item: dict[Any, Any]) -> bytes | None:
    """A key of what an item has besides its name; None for values that are not plain.

    By types and bits, which tell 1 from true, and text from what YAML only reads as text.
    """
    try:
        return marshal.dumps([pair for pair in item.items() if pair[0] != "name"], 2)
    except ValueError:
        return None


def _parsed(
    form: dict[str, Any], message: plan_pb2.Tensor, name: str, index: int
) -> list[Violation]:
    """Fills the message of one tensor; protobuf still refuses some text, such as surrogates."""
    try:
        json_format.ParseDict(form, message)
    except _NOT_PARSED as error:
        wrong = []
        for key, value in form.items():
            try:
                json_format.ParseDict({key: value}, plan_pb2.Tensor())
            except _NOT_PARSED:
                text = f"is {value!r}; it must be {EXPECTED.get(key, 'one of the known names')}"
                wrong.append(Violation(name, key, text, index))
        return wrong or [Violation(name, "scheme", f"the tensor cannot be read: {error}", index)]
    return []


_NOT_PARSED = (
    json_format.ParseError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def dump_plan(plan: Plan | Mapping[str, Tensor], path: str | Path) -> None:
    """Writes a plan file: JSON if the name ends in `.json`, else YAML.

    The file appears whole or not at all, and an existing file is replaced in one step.

    Args:
        plan: a Plan, or a dict from names to tensors, whose seed is 0.
        path: the file.

    Raises:
        TypeError: if `plan` is something else.
        PlanError: if a value of the plan does not fit the message.
        OSError: if the file cannot be written; an existing file stays as it was.
    """
    if isinstance(plan, Mapping):
        plan = Plan(plan)
    elif not isinstance(plan, Plan):
        raise TypeError(
            f"the plan is {plan!r}; give a Plan, or a dict from names to tensors (ic.load_plan "
            "reads a plan file, ic.get_plan gives the plan of a server's model)"
        )
    text = format_plan(plan, json_form=str(path).endswith(".json"))
    write_whole(path, text.encode())


def format_plan(plan: Plan, *, json_form: bool = False) -> str:
    """The text of a plan file, as YAML or JSON."""
    message = to_proto(plan)
    if json_form:
        form = {
            "seed": plan.seed,
            **_provenance(plan),
            "tensors": [_form(tensor) for tensor in message.tensors],
        }
        return json.dumps(form, indent=1) + "\n"
    # A line for each key, so that a difference between two files is one line, too.
    head = f"seed: {plan.seed}\n{_yaml(_provenance(plan), flow=False)}"
    if not message.tensors:
        return head + _yaml({"tensors": []})
    lines = [head, "tensors:\n"]
    kinds: dict[bytes, str] = {}
    for tensor in message.tensors:
        name = tensor.name
        if not is_plain(name):
            lines.append(_yaml([_form(tensor)]))
            continue
        # An item's lines below its name, which are the same for all of its kind.
        tensor.ClearField("name")
        kind = tensor.SerializeToString(deterministic=True)
        below = kinds.get(kind)
        if below is None:
            tensor.name = "x"
            below = _yaml([_form(tensor)]).removeprefix("- name: x\n")
            if len(kinds) < _MAX_KINDS:
                kinds[kind] = below
        lines.append(f"- name: {name}\n{below}")
    return "".join(lines)


def _provenance(plan: Plan) -> dict[str, Any]:
    return {"provenance": dict(plan.provenance)} if plan.provenance else {}


def _yaml(form: Any, *, flow: bool | None = None) -> str:
    import yaml

    if not form:
        return ""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(form, Dumper=dumper, sort_keys=False, default_flow_style=flow, width=120))


def _form(tensor: plan_pb2.Tensor) -> dict[str, Any]:
    """A tensor as plan files have it."""
    return _readable(json_format.MessageToDict(tensor, preserving_proto_field_name=True))


def _readable(item: dict[str, Any]) -> dict[str, Any]:
    """A tensor of protobuf's JSON with the name first and 64-bit integers as numbers."""
    sizes = [int(size) for size in item.pop("shape", [])]
    form = {"name": item.pop("name", ""), "shape": sizes, **item}
    for key in ("seed", "groups"):
        if key in item:
            form[key] = int(item[key])
    if "zero_rows" in item:
        form["zero_rows"] = [int(row) for row in item["zero_rows"]]
    for bounds in item.get("slices", []):
        bounds.update({key: int(value) for key, value in bounds.items()})
    if "parts" in item:
        form["parts"] = [_readable(part) for part in item["parts"]]
    return form
