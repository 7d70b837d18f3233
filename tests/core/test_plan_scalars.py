"""A scalar in a plan file is what a builder takes for it in Python, or both refuse it."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from initcore import Plan, PlanError, Tensor, layout
from initcore.wire.plan_file import parse_plan


def eye(text: str) -> Any:
    """A scalar as people read it: JSON's text, decimal numbers, truth values, null; else text."""
    if text.startswith('"'):
        return json.loads(text)
    if text in ("null", "~"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch("[-+]?(0|[1-9][0-9]*)", text, re.ASCII):
        return int(text)
    if re.fullmatch(
        r"(?=.*[.eE])[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text, re.ASCII
    ):
        return float(text)
    return text


SCHEME_OF = {
    "std": "normal",
    "a": "uniform",
    "gain": "orthogonal",
    "val": "constant",
    "sparsity": "sparse",
    "scale": "variance_scaling",
    "groups": "dirac",
    "mode": "kaiming_normal",
    "nonlinearity": "kaiming_normal",
    "distribution": "variance_scaling",
    "layout": "lecun_normal",
    "relative": "trunc_normal",
    "checkpoint": "pretrained",
    "source": "pretrained",
    "sha256": "pretrained",
    "batch_axes": "lecun_normal",
}
NEEDED = {
    "sparsity": {"sparsity": "0.5"},
    "source": {"checkpoint": "c"},
    "sha256": {"checkpoint": "c"},
}
YES_OR_NO = ("yes", "no", "on", "off", "On", "NO")
TEXTS = ("name", "stream", "checkpoint", "source", "sha256")
LISTS = ("shape", "zero_rows", "batch_axes")
PLACES = (*SCHEME_OF, "scheme", "dtype", "seed", "stream", "name", "shape", "zero_rows", "slices")
WORDS = [
    *("yes", "no", "on", "off", "On", "NO", "y", "n", "true", "false", "null", "~", "=", "<<"),
    *("0x10", "010", "0o10", "0b11", "1_000", "1:30", "08", "1.", ".5", "-.5", "+7", "-0", "1e5"),
    *(".nan", ".inf", "nan", "inf", "1.5e3", "1.10", "2024-01-01", "2024-13-45", "a" * 64),
    *("fan_in", "FAN_OUT", "fan_\u0131n", "relu", "uniform", "NORMAL", "un\u0131form", "one\u017f"),
    *("bf16", "torch.bfloat16", "half", "fp32", "\u013164", "ones", "jax", "\u212aaiming_normal"),
    *("\uff11", "\u0661", "9007199254740993", "18446744073709551615", "18446744073709551616"),
]
SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(WORDS).map(json.dumps),
    st.integers(-3, 5).map(str),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(alphabet="0123456789+-._eExobnfya", min_size=1, max_size=6),
)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(PLACES), SCALARS)
@example("scheme", "un\u0131form")
@example("mode", "fan_\u0131n")
@example("dtype", "\u013164")
@example("name", "1.10")
def test_a_scalar_in_any_field_is_what_the_builder_takes_or_refused(place: str, text: str) -> None:
    name, value = "w", eye(text)
    if place in TEXTS and isinstance(value, int | float) and not text.startswith('"'):
        value = text
    if place == "relative" and text in YES_OR_NO:
        value = text.lower() in ("yes", "on")
    item = {"shape": "[4, 4]", "scheme": SCHEME_OF.get(place, "uniform")} | NEEDED.get(place, {})
    fields: dict[str, Any] = {**item, "shape": (4, 4)}
    if "sparsity" in item:
        fields["sparsity"] = float(item["sparsity"])
    if place == "name":
        name = value
    elif place == "slices":
        fields[place] = ((None, value), (None, None))
    else:
        fields[place] = (value,) if place in LISTS else value
    in_file = {"slices": f"[{{stop: {text}}}, {{}}]", **dict.fromkeys(LISTS, f"[{text}]")}
    item = {"name": "w", **item, place: in_file.get(place, text)}
    try:
        found = parse_plan("tensors:\n-\n" + "".join(f"  {k}: {v}\n" for k, v in item.items()))
    except PlanError as error:
        wrong = error.violations
    else:
        assert found == Plan({name: Tensor(**fields)})
        return
    assert all(violation.line for violation in wrong)
    # What file and Python read alike is refused only where Python refuses it.
    plain = not isinstance(value, str) or (value.isalpha() and value.isascii())
    if plain and text not in YES_OR_NO and type(value) is type(eye(text)):
        assert refused_in_python(name, fields)


def refused_in_python(name: str, fields: dict[str, Any]) -> bool:
    """Whether Python refuses a tensor with these fields."""
    try:
        layout(Plan({name: Tensor(**fields)}))
    except (PlanError, TypeError, ValueError):
        return True
    return False
