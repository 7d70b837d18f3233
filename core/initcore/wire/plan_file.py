"""Plan files: the JSON form of the plan message, written as YAML or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from initserve.v1 import plan_pb2

from initcore.errors import PlanError, Violation
from initcore.plan import REALS, Plan, suggestion
from initcore.resolve import MAX_DEPTH
from initcore.wire.conversion import from_proto, to_proto


def load_plan(path: str | Path) -> Plan:
    """Reads a plan file.

    Args:
        path: a `.yaml`, `.yml` or `.json` file; other names are read as YAML, of which
            JSON is a part.

    Raises:
        OSError: if the file cannot be read.
        PlanError: if it is not a plan, naming tensor and field.
    """
    return parse_plan(Path(path).read_text(encoding="utf-8"), source=str(path))


def parse_plan(text: str, source: str = "the text") -> Plan:
    """The plan in the text of a plan file; `source` names it in errors.

    Raises:
        PlanError: if it is not a plan, naming tensor and field.
    """
    import yaml

    try:
        is_json = text.lstrip().startswith("{")
        form = json.loads(text, object_pairs_hook=_once) if is_json else load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Flow mappings of YAML start with a brace too.
        try:
            form = load_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError) as second:
            message = f"{source} is neither YAML nor JSON: {second}"
            raise PlanError([Violation("", "file", message)]) from error
    return plan_from_form(form, source)


def load_yaml(text: str) -> Any:
    """The plain data in YAML text.

    Raises:
        yaml.YAMLError, ValueError: if it is not YAML, or a mapping has a key twice.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """YAML's plain data; a mapping with a key twice is refused."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            # Scalar keys only: a list or a mapping as a key is refused below.
            keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if len(set(keys)) != len(keys):
                twice = next(key for key in keys if keys.count(key) > 1)
                raise ValueError(f"{node.start_mark}: the key {twice!r} is there twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=Loader)
    except (AttributeError, KeyError) as error:
        # The loader raises these for `!!bool maybe` and `!!timestamp soon`.
        raise ValueError("a value is not what its tag says") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, without keys that are there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return found


def plan_from_form(form: Any, source: str = "the plan") -> Plan:
    """The plan in a parsed plan file: a mapping with `seed` and `tensors`.

    Raises:
        PlanError: if it is not a plan, naming tensor and field.
    """
    if not isinstance(form, dict):
        text = f"{source} holds no mapping; a plan has the keys seed and tensors"
        raise PlanError([Violation("", "file", text)])
    violations = _unknown(form, plan_pb2.Plan(), "", None)
    items = form.get("tensors", [])
    if not isinstance(items, list):
        violations.append(Violation("", "tensors", f"is {items!r}; it must be a list"))
        items = []
    message = plan_pb2.Plan()
    if not violations:
        violations += _parse({"seed": form.get("seed", 0)}, message, "", None)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            text = f"is {item!r}; it must be a mapping with name, shape and scheme"
            violations.append(Violation("", f"tensors[{index}]", text))
            continue
        name = str(item.get("name", ""))
        found = _unknown_in_tensor(item, name, index)
        violations += found or _parse(item, message.tensors.add(), name, index)
    if violations:
        raise PlanError(violations)
    return from_proto(message)


def _unknown_in_tensor(
    item: dict[Any, Any], name: str, index: int, prefix: str = ""
) -> list[Violation]:
    """Keys that a tensor does not have, and shapes that are missing, in its parts too."""
    found = _unknown(item, plan_pb2.Tensor(), name, index, prefix)
    if not found and "shape" not in item and item.get("scheme") not in _SHAPED_BY_PARTS:
        text = "is missing; give a list of sizes, or [] for a scalar"
        found.append(Violation(name, f"{prefix}shape", text, index))
    parts = item.get("parts")
    if isinstance(parts, list) and prefix.count("parts") < MAX_DEPTH:
        for number, part in enumerate(parts):
            if isinstance(part, dict):
                inner = f"{prefix}parts[{number}]."
                found += _unknown_in_tensor(part, name, index, inner)
    return found


_SHAPED_BY_PARTS = ("CONCATENATE", "STACK", "PERMUTE")


def _unknown(
    form: dict[Any, Any], message: Message, name: str, index: int | None, prefix: str = ""
) -> list[Violation]:
    """Keys and enum values that the message does not have."""
    descriptor = message.DESCRIPTOR
    fields = {**descriptor.fields_by_name, **{f.json_name: f for f in descriptor.fields}}
    violations = []
    for key, value in form.items():
        field = fields.get(key)
        if field is not None and key != field.name and field.name in form:
            text = f"is there twice, as {field.name} too"
            violations.append(Violation(name, prefix + str(key), text, index))
        elif field is None:
            text = f"there is no such field: {suggestion(key, descriptor.fields_by_name)}"
            violations.append(Violation(name, prefix + str(key), text, index))
        elif field.enum_type is not None and isinstance(value, str):
            known = [v.name for v in field.enum_type.values if v.number]
            if value not in known:
                text = f"{value!r} is not known: {suggestion(value, known)}"
                violations.append(Violation(name, prefix + str(key), text, index))
        elif field.enum_type is not None and isinstance(value, bool | float):
            # Protobuf would take them as enum numbers.
            text = f"is {value!r}; it must be one of the known names"
            violations.append(Violation(name, prefix + str(key), text, index))
    return violations


_INTEGERS = "a list of integers, such as [4096, 1024]"
_EXPECTED = {
    "seed": "an integer within 0..2^64-1",
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
    "sha256": "text of 64 hexadecimal digits",
    "relative": "true or false",
    **dict.fromkeys(REALS, "a finite number"),
}


def _parse(form: dict[str, Any], message: Message, name: str, index: int | None) -> list[Violation]:
    """Reads one mapping; after an error field by field, so that violations name the field."""
    given = {key: value for key, value in form.items() if value is not None}
    violations = [
        Violation(name, key, f"is {given[key]}, which no double holds exactly", index)
        for key in REALS
        if isinstance(given.get(key), int) and _is_inexact(given[key])
    ]
    try:
        json_format.ParseDict(given, message)
    except _NOT_PARSED:
        known = {violation.field for violation in violations}
        for key, value in given.items():
            if key in known:
                continue
            try:
                json_format.ParseDict({key: value}, type(message)())
            except _NOT_PARSED:
                expected = _EXPECTED.get(key, "one of the known names")
                text = f"is {value!r}; it must be {expected}"
                violations.append(Violation(name, str(key), text, index))
    return violations


_NOT_PARSED = (
    json_format.ParseError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def _is_inexact(value: int) -> bool:
    try:
        return int(float(value)) != value
    except OverflowError:
        return True


def dump_plan(plan: Plan, path: str | Path) -> None:
    """Writes a plan file: JSON if the name ends in `.json`, else YAML.

    Raises:
        PlanError: if a value of the plan does not fit the message.
        OSError: if the file cannot be written.
    """
    Path(path).write_text(format_plan(plan, json_form=str(path).endswith(".json")), "utf-8")


def format_plan(plan: Plan, *, json_form: bool = False) -> str:
    """The text of a plan file, as YAML or JSON."""
    form = json_format.MessageToDict(to_proto(plan), preserving_proto_field_name=True)
    # 64-bit integers are text in protobuf's JSON; files read better with numbers.
    form["seed"] = plan.seed
    tensors = form.setdefault("tensors", [])
    form["tensors"] = [_readable(item) for item in tensors]
    if json_form:
        return json.dumps(form, indent=1) + "\n"
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(form, Dumper=dumper, sort_keys=False, default_flow_style=None, width=120))


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
