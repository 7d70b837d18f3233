"""Items of a plan file that differ in name alone, as those of a model's layers do.

Each kind of item is read and written once, so that a plan of a hundred thousand tensors takes a
second and not minutes. What does not have the simple form known here takes the way of all others
(`plan_text`, `plan_file`), and so does everything that is wrong: errors come from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from initcore.errors import PlanError
from initcore.plan import Plan, Tensor
from initcore.wire.names import NAME, is_plain

_HEAD = re.compile(
    r"(?:seed: (0|[1-9][0-9]{0,19})\n)?(provenance:\n(?:  [A-Za-z].*\n)+)?tensors:\n"
)
_ITEM = re.compile(rf"- name: ({NAME})\n((?:  .*\n)*)")
_STAND_IN = "x"

# YAML ends a line at the first four, too, and an anchor must not stand in a file twice.
_OTHERS = re.compile("[\r\x85\u2028\u2029&]")

_LEAST = 64
"""Items from which a plan is long."""

_REPEATS = 4
"""How many items a kind must have on average, so that looking for kinds pays."""


def parse_repeated(text: str, parse: Callable[[str], Plan]) -> Plan | None:
    """The plan in a text of items that differ in name alone; None for any other text.

    Args:
        text: YAML, as `format_plan` writes it.
        parse: reads the text of a plan.
    """
    head = _HEAD.match(text)
    if head is None or text.count("\n- name: ") < _LEAST:
        return None
    items: list[tuple[str, str]] = []
    at = head.end()
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            return None
        items.append((item[1], item[2]))
        at = item.end()
    names, kinds = {name for name, _ in items}, {body for _, body in items}
    if len(kinds) * _REPEATS > len(items):
        return None
    seed = int(head[1] or 0)
    if len(names) < len(items) or not all(map(is_plain, names)) or seed >= 1 << 64:
        return None
    if any(map(_OTHERS.search, kinds)):
        return None
    tensors: dict[str, Tensor] = {}
    provenance: Mapping[str, str] = {}
    if head[2]:
        if _OTHERS.search(head[2]):
            return None
        try:
            provenance = parse(f"{head[2]}tensors: []\n").provenance
        except PlanError:
            return None
    for body in kinds:
        # Alone, so that quotes, anchors or indents that reach into other items are seen: they
        # are errors here, or leave another item than the one.
        try:
            plan = parse(f"tensors:\n- name: {_STAND_IN}\n{body}")
        except PlanError:
            return None
        if list(plan.tensors) != [_STAND_IN] or plan.seed != 0:
            return None
        tensors[body] = plan.tensors[_STAND_IN]
    return Plan({name: tensors[body] for name, body in items}, seed, provenance=provenance)
