"""A plan file means what the eye reads, to the value, or is refused with its line and a remedy."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from initcore import (
    PlanError,
    Violation,
    constant,
    dump_plan,
    layout,
    load_plan,
    normal,
    trunc_normal,
    zeros,
)
from initcore.wire.plan_file import format_plan, parse_plan

from tests import plans


def refused(text: str) -> Any:
    """The one violation of a text."""
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    (violation,) = caught.value.violations
    assert violation.line is not None
    assert f"line {violation.line}: " in str(violation)
    return violation


def file_with(field: str, value: str) -> str:
    """A plan of two tensors; the second has the field on line 9."""
    wide = field in ("std", "a", "mean", "scheme")
    fields = {"name": "w", "shape": "[2, 3]", "scheme": "TRUNC_NORMAL" if wide else "DIRAC"}
    if field in ("gain", "mode", "nonlinearity", "layout", "batch_axes"):
        fields["scheme"] = (
            "KAIMING_NORMAL" if field in ("mode", "nonlinearity") else "XAVIER_NORMAL"
        )
    if field == "val":
        fields["scheme"] = "CONSTANT"
    if field in ("checkpoint", "source", "sha256"):
        fields |= {"scheme": "PRETRAINED", "checkpoint": "c"}
    fields.pop(field, None)
    lines = ["seed: 7", "tensors:", "- {name: first, shape: [], scheme: ONES}", "-"]
    lines += [f"  {key}: {text}" for key, text in fields.items()]
    lines += [""] * (8 - len(lines))
    return "\n".join([*lines, f"  {field}: {value}"]) + "\n"


REFUSED: list[tuple[str, str, str]] = [
    # the field, its text, what the message must hold
    ("std", "yes", "is yes, which YAML reads as true; it must be a finite number"),
    ("std", "NO", "is NO, which YAML reads as false; it must be a finite number"),
    ("std", "on", "is on, which YAML reads as true"),
    ("std", "true", "is True; it must be a finite number"),
    ("gain", "true", "is True; it must be a finite number"),
    ("gain", "off", "is off, which YAML reads as false"),
    ("val", "yes", "is yes, which YAML reads as true"),
    ("std", "1_000", "is 1_000, which YAML reads as 1000; it must be a finite number, in decimal"),
    ("std", "1_0.5", "is 1_0.5, which YAML reads as 10.5"),
    ("a", "1:30", "is 1:30, which YAML reads as 90"),
    ("a", "1:30.5", "is 1:30.5, which YAML reads as 90.5"),
    ("a", "-0x10", "is -0x10, which YAML reads as -16"),
    ("a", "010", "is 010, which YAML reads as 8"),
    ("a", "08", "is '08'; it must be a finite number"),
    ("a", "0b11", "is 0b11, which YAML reads as 3"),
    ("std", "2024-01-01", "is 2024-01-01, which YAML reads as a date"),
    ("std", "2024-13-45", "is 2024-13-45, which YAML reads as a date"),
    ("std", ".nan", "is nan; it must be a finite number"),
    ("std", "nan", "is 'nan'; it must be a finite number"),
    ("std", "NaN", "is 'NaN'; it must be a finite number"),
    ("std", ".inf", "is inf; it must be a finite number"),
    ("std", "-.INF", "is -inf; it must be a finite number"),
    ("std", "Infinity", "is 'Infinity'; it must be a finite number"),
    ("std", "1e400", "is inf; it must be a finite number"),
    ("std", "'0.02'", "is '0.02'; it must be a finite number: without quotes, 0.02"),
    ("std", "' 0.02'", "is ' 0.02'; it must be a finite number"),
    ("val", "'9007199254740993'", "without quotes, 9007199254740993"),
    ("val", "9007199254740993", "9007199254740993, which no double holds exactly"),
    ("std", "\uff11", "it must be a finite number"),
    ("std", "", "is blank; it must be a finite number"),
    ("std", "[1]", "is [1]; it must be a finite number"),
    ("std", "{a: 1}", "it must be a finite number"),
    ("seed", "", "is blank; it must be an integer within 0..2^64-1"),
    ("seed", "yes", "is yes, which YAML reads as true"),
    ("seed", "'7'", "is '7'; it must be an integer within 0..2^64-1: without quotes, 7"),
    ("seed", "7.0", "is 7.0; it must be an integer"),
    ("seed", "1e3", "is '1e3'; it must be an integer"),
    ("seed", "1_0", "is 1_0, which YAML reads as 10"),
    ("seed", "18446744073709551616", "within 0..2^64-1"),
    ("groups", "true", "is True; it must be an integer"),
    ("groups", "", "is blank"),
    ("shape", "[0x10, 2]", "is [0x10, 2]; it must be a list of integers"),
    ("shape", "[2, 017]", "an entry is 017, which YAML reads as 15"),
    ("shape", "[1:30]", "an entry is 1:30, which YAML reads as 90"),
    ("shape", "[1_000]", "an entry is 1_000, which YAML reads as 1000"),
    ("shape", "[true]", "an entry is True"),
    ("shape", "[~]", "an entry is None"),
    ("shape", "['2']", "an entry is '2'; it must be an integer: without quotes, 2"),
    ("shape", "[2.0]", "an entry is 2.0"),
    ("shape", "", "is blank; it must be a list of integers"),
    ("shape", "9", "is 9; it must be a list of integers"),
    ("zero_rows", "[0x0]", "an entry is 0x0, which YAML reads as 0"),
    ("batch_axes", "[4294967296]", "an integer within -2147483648..2147483647"),
    ("slices", "[{start: 0x1}, {}]", "an entry is 0x1, which YAML reads as 1"),
    ("slices", "[{start: }, {}]", "an entry is blank"),
    ("slices", "[{begin: 1}, {}]", "{start: ..., stop: ...}"),
    ("name", "yes", "is yes, which YAML reads as true; it must be text: put it in quotes, 'yes'"),
    ("name", "NO", "put it in quotes, 'NO'"),
    ("name", "12", "is 12; it must be text: put it in quotes, '12'"),
    ("name", "1.10", "it must be text: put it in quotes"),
    ("name", "0x10", "put it in quotes, '0x10'"),
    ("name", "2024-01-01", "put it in quotes, '2024-01-01'"),
    ("name", "", "is blank; it must be text"),
    ("name", "~", "is missing; every tensor has a name"),
    ("stream", "on", "put it in quotes, 'on'"),
    ("stream", "", "is blank; it must be text"),
    ("source", "3", "put it in quotes, '3'"),
    ("sha256", "0" * 64, f"put it in quotes, '{'0' * 64}'"),
    ("dtype", "yes", "it must be one of F64, F32"),
    ("dtype", "1", "is the number 1; it must be one of F64, F32"),
    ("dtype", "", "it must be one of F64, F32"),
    ("scheme", "2", "is the number 2; it must be one of UNIFORM"),
    ("mode", "1", "is the number 1; it must be one of FAN_IN"),
    ("mode", "", "it must be one of FAN_IN"),
    ("relative", "1", "is 1; it must be true or false"),
    ("relative", "'true'", "is 'true'; it must be true or false"),
    ("relative", "y", "is 'y'; it must be true or false"),
    ("relative", "", "is blank; it must be true or false"),
    ("parts", "", "is blank; it must be a list of tensors"),
    ("yes", "1", "there is no such field"),
]


@pytest.mark.parametrize(("field", "text", "message"), REFUSED)
def test_scalars_that_read_otherwise_are_refused(field: str, text: str, message: str) -> None:
    violation = refused(file_with(field, text))
    assert message in violation.message
    assert (violation.field, violation.index, violation.line) == (field, 1, 9)
    if field != "name":
        assert violation.tensor == "w"


TOP: list[tuple[str, str]] = [
    ("seed:\ntensors: []", "is blank"),
    ("seed: ~\ntensors: []", "is null"),
    ("seed: 0x10\ntensors: []", "is 0x10, which YAML reads as 16"),
    ("seed: '7'\ntensors: []", "without quotes, 7"),
    ("seed: true\ntensors: []", "is True; it must be an integer"),
    ("seed: 7.0\ntensors: []", "is 7.0; it must be an integer"),
    ("tensors:", "is blank; it must be a list of tensors"),
]


@pytest.mark.parametrize(("text", "message"), TOP)
def test_the_plans_own_fields_are_as_strict(text: str, message: str) -> None:
    violation = refused(text)
    assert message in violation.message
    assert violation.line == 1


TAKEN: list[tuple[str, str, Any]] = [
    ("std", "1e-2", 0.01),
    ("std", "1E-2", 0.01),
    ("std", "1.5e3", 1500.0),
    ("std", ".5", 0.5),
    ("a", "-.5", -0.5),
    ("a", "-1e-3", -0.001),
    ("std", "2", 2),
    ("std", "+2.", 2.0),
    ("std", "null", None),
    ("val", "true", 1),
    ("val", "1e15", 1e15),
    ("seed", "18446744073709551615", 2**64 - 1),
    ("seed", "null", None),
    ("name", "1e3", "1e3"),
    ("name", "'0x10'", "0x10"),
    ("name", "y", "y"),
    ("stream", "'yes'", "yes"),
]


@pytest.mark.parametrize(("field", "text", "value"), TAKEN)
def test_scalars_that_read_as_they_look_are_taken(field: str, text: str, value: Any) -> None:
    name, tensor = list(parse_plan(file_with(field, text)).tensors.items())[1]
    found = name if field == "name" else getattr(tensor, field)
    assert found == value


@pytest.mark.parametrize("text", ["yes", "true", "On"])
def test_a_truth_value_may_be_said_in_words(text: str) -> None:
    tensor = parse_plan(
        f"tensors: [{{name: w, shape: [2], scheme: TRUNC_NORMAL, relative: {text}}}]"
    ).tensors["w"]
    assert tensor.relative is True


SCALARS = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.floats().map(lambda number: f"{number:e}"),
    st.integers(0, 10**6).flatmap(
        lambda n: st.sampled_from([hex(n), f"0{n:o}", f"0o{n:o}", bin(n)])
    ),
    st.integers(1000, 10**9).map(lambda n: f"{n:_}"),
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from(["yes", "no", "on", "off", "true", "false", "y", "n", "null", "~", ".nan"]),
    st.sampled_from([".inf", "-.inf", "=", "<<", "NaN", "1:30", "08", "1.", "1_0.5"]),
    st.sampled_from(["", "!!str 12", "!!float 2", "!!int '7'", "!!bool yes", "!!null ''"]),
    st.text(alphabet="0123456789+-._:eExob", max_size=6),
    st.text(alphabet="0123456789yesnofx .'\"", max_size=6).map(json.dumps),
)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(["std", "seed", "name", "stream", "shape", "val"]), SCALARS)
@example("std", "")
@example("seed", "'7'")
@example("shape", "- 3")
def test_any_scalar_is_the_builders_value_or_refused_with_its_line(field: str, text: str) -> None:
    scheme = {"val": "CONSTANT", "std": "NORMAL"}.get(field, "UNIFORM")
    fields = {"name": "w", "shape": "[2]", "scheme": scheme, field: text}
    if field == "shape":
        fields["shape"] = f"[{text}]"
    lines = "".join(f"  {key}: {value}\n" for key, value in fields.items())
    wrong: tuple[Violation, ...] = ()
    try:
        plan = parse_plan(f"tensors:\n-\n{lines}")
    except PlanError as error:
        wrong = error.violations
    if wrong:
        assert all(violation.line for violation in wrong)
        return
    (name, tensor), *_ = plan.tensors.items()
    found = name if field == "name" else getattr(tensor, field)
    if field == "shape":
        if not found:
            assert not text.strip()
            return
        (found,) = found
    bare = text.strip()
    if found is None:
        assert bare in ("null", "~")
    elif isinstance(found, str):
        assert found == yaml.safe_load(bare)
    elif found in (0, 1) and bare in ("true", "false"):
        assert field == "val"
    else:
        # What Python reads, sign and all.
        number = re.fullmatch(r"(?:!!(?:int|float) )?'?([-+0-9.eE]+)'?", bare)
        assert number is not None
        digits = number[1]
        expected = float(digits) if isinstance(found, float) else int(digits)
        assert found == expected
        assert math.copysign(1, found) == math.copysign(1, expected)
    # What a file says, the builders take; its null says that the field is not given.
    {
        "std": lambda: normal((2,)) if found is None else normal((2,), std=found),
        "val": lambda: constant((2,), found),
        "seed": lambda: zeros((2,), seed=found),
        "stream": lambda: normal((2,), stream=found),
        "name": lambda: zeros((2,)),
        "shape": lambda: zeros((found,)),
    }[field]()


def test_json_refuses_what_yaml_does_and_says_the_line() -> None:
    text = """{
 "seed": 7,
\t"tensors": [
  {"name": "caf\\u00e9 \\ud83d\\ude42", "shape": [2], "scheme": "NORMAL",
   "std": "0.5"}
 ]
}"""
    violation = refused(text)
    assert (violation.field, violation.line) == ("std", 5)
    assert refused('{"seed": true}').field == "seed"
    assert refused('{"seed": null}').field == "seed"
    assert (
        refused('{"tensors": [{"name": "w", "shape": [2.0], "scheme": "ONES"}]}').field == "shape"
    )
    for number in ("NaN", "Infinity", "1e999"):
        text = (
            f'{{"tensors": [{{"name": "w", "shape": [2], "scheme": "NORMAL", "std": {number}}}]}}'
        )
        assert refused(text).field == "std"


def test_integers_of_64_bits_may_be_in_quotes_in_json_as_protobuf_writes_them() -> None:
    from google.protobuf import json_format
    from initcore.wire.conversion import to_proto

    plan = plans.every_scheme()
    text = json_format.MessageToJson(to_proto(plan), preserving_proto_field_name=True)
    assert '"seed": "7"' in text
    assert parse_plan(text) == plan
    for number in ("0x7", "7.0", " 7", "1_0", "007", ""):
        assert refused(f'{{"seed": "{number}"}}').field == "seed"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\ntensors: []\nseed: 2", 3),
        ("tensors:\n- name: w\n  shape: [2]\n  scheme: ONES\n  shape: [3]", 5),
        ('{"seed": 1,\n "seed": 2}', 2),
        ("seed: [1\ntensors: 3", 2),
        ("seed: 7\n\ttensors: []", 2),
    ],
)
def test_files_that_cannot_be_read_name_the_line(text: str, line: int) -> None:
    assert refused(text).line == line


def test_anchors_and_merges_still_work() -> None:
    plan = parse_plan(
        "tensors:\n- &one {name: a, shape: [2, 2], scheme: NORMAL, std: 0.5}\n- {<<: *one, name: b}"
    )
    assert plan.tensors["a"] == plan.tensors["b"]
    recursive = "tensors:\n- &t {name: w, shape: [2], scheme: STACK, parts: [*t]}"
    assert "more than 8 deep" in refused(recursive).message


@pytest.mark.parametrize("style", ["{}", "'{}'"])
@pytest.mark.parametrize(
    ("field", "spellings", "value"),
    [
        ("dtype", "BF16 bf16 bfloat16 torch.bfloat16 BFloat16", "BF16"),
        ("dtype", "F32 f32 float32 fp32 float FLOAT32", "F32"),
        ("dtype", "F16 fp16 half float16 FP16", "F16"),
        ("dtype", "F64 double fp64 float64", "F64"),
        ("dtype", "F8_E4M3 f8_e4m3 float8_e4m3fn", "F8_E4M3"),
        ("mode", "FAN_OUT fan_out Fan_Out", "fan_out"),
        ("nonlinearity", "RELU relu ReLU", "relu"),
        ("layout", "JAX jax", "jax"),
        ("scheme", "KAIMING_NORMAL kaiming_normal Kaiming_Normal", "kaiming_normal"),
    ],
)
def test_names_are_taken_in_any_common_spelling(
    field: str, spellings: str, value: str, style: str
) -> None:
    for spelling in spellings.split():
        fields = {"name": "w", "shape": "[2, 3]", "scheme": "kaiming_normal"}
        fields[field] = style.format(spelling)
        item = ", ".join(f"{key}: {text}" for key, text in fields.items())
        assert getattr(parse_plan(f"tensors: [{{{item}}}]").tensors["w"], field) == value


def test_lower_case_means_the_same_plan(tmp_path: Path) -> None:
    plan = plans.every_scheme()
    text = format_plan(plan)
    assert "KAIMING_NORMAL" in text
    assert "dtype: F32" in text
    lower = re.sub(
        r"((?:dtype|scheme|mode|nonlinearity|distribution|layout): )(\w+)",
        lambda found: found[1] + found[2].lower(),
        text,
    )
    assert lower != text
    assert parse_plan(lower) == plan
    assert layout(parse_plan(lower)).digest == layout(plan).digest
    dump_plan(parse_plan(lower), tmp_path / "plan.yaml")
    assert (tmp_path / "plan.yaml").read_text() == text
    assert load_plan(tmp_path / "plan.yaml") == plan


def test_a_stack_in_lower_case_needs_no_shape() -> None:
    text = "tensors: [{name: s, scheme: stack, parts: [{name: p, shape: [2], scheme: ones}]}]"
    assert parse_plan(text).tensors["s"].shape == (1, 2)


def test_null_is_pythons_none() -> None:
    text = "tensors: [{name: w, shape: [2, 2], scheme: KAIMING_NORMAL, a: null, mode: ~}]"
    short = "tensors: [{name: w, shape: [2, 2], scheme: KAIMING_NORMAL}]"
    assert parse_plan(text) == parse_plan(short)
    cut = "tensors: [{name: w, shape: [4], scheme: ONES, slices: [{start: null, stop: 3}]}]"
    assert parse_plan(cut).tensors["w"].slices == ((None, 3),)


def test_the_line_is_that_of_the_inner_part() -> None:
    text = """tensors:
- name: s
  scheme: STACK
  parts:
  - {name: p, shape: [2], scheme: ONES}
  - {name: q, shape: [2], scheme: NORMAL, std: yes}
- name: t
  shape: [2]
  scheme: trunc_normal
  relative: true
"""
    violation = refused(text)
    assert (violation.path, violation.line) == ("tensors[0].parts[1].std", 6)
    whole = trunc_normal((2,), relative=True)
    assert parse_plan(text.replace("yes", "0.5")).tensors["t"].relative == whole.relative
