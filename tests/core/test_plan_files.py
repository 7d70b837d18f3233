"""Plan files, messages and plans say the same thing; what they cannot say is refused clearly."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from initcore import (
    Plan,
    PlanError,
    Tensor,
    constant,
    dump_plan,
    kaiming_normal,
    layout,
    load_plan,
    normal,
    zeros,
)
from initcore.wire.conversion import from_proto, to_proto
from initcore.wire.plan_file import format_plan, parse_plan
from initserve.v1 import plan_pb2

from tests import plans

EXAMPLE = """
seed: 7
tensors:
  - {name: fc.weight, shape: [4096, 1024], dtype: BF16, scheme: KAIMING_NORMAL, mode: FAN_OUT,
     nonlinearity: RELU}
  - {name: fc.bias, shape: [4096], scheme: ZEROS}
"""


def test_a_file_by_hand_equals_the_plan_in_python(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(EXAMPLE)
    weight = kaiming_normal((4096, 1024), mode="fan_out", nonlinearity="relu", dtype="bfloat16")
    in_python = Plan(seed=7, tensors={"fc.weight": weight, "fc.bias": zeros((4096,))})
    assert layout(load_plan(path)).digest == layout(in_python).digest


@settings(max_examples=200, deadline=None)
@given(plans.plans(), st.booleans())
def test_plans_survive_files_and_messages(plan: Plan, as_json: bool) -> None:
    for copy in (
        from_proto(to_proto(plan)),
        from_proto(plan_pb2.Plan.FromString(to_proto(plan).SerializeToString())),
        parse_plan(format_plan(plan, json_form=as_json)),
    ):
        assert copy == plan
        assert layout(copy).digest == layout(plan).digest
        assert layout(copy).header == layout(plan).header


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json", "plan"])
def test_plans_survive_the_disk(tmp_path: Path, name: str) -> None:
    plan = plans.every_scheme()
    dump_plan(plan, tmp_path / name)
    assert load_plan(tmp_path / name) == plan
    if name.endswith(".json"):
        assert json.loads((tmp_path / name).read_text())["seed"] == 7


def test_defaults_written_out_are_the_same_plan() -> None:
    short = parse_plan("tensors: [{name: w, shape: [4, 4], scheme: KAIMING_UNIFORM}]")
    long = parse_plan(
        "seed: 0\ntensors: [{name: w, shape: [4, 4], scheme: KAIMING_UNIFORM, a: 0, dtype: F32, "
        "mode: FAN_IN, nonlinearity: LEAKY_RELU, layout: TORCH, stream: w, seed: 0, "
        "slices: [{start: 0, stop: 4}, {}]}]"
    )
    assert layout(short).digest == layout(long).digest


@pytest.mark.parametrize(
    "change",
    [
        "seed: 8",
        "name: v",
        "shape: [4, 5]",
        "dtype: F16",
        "scheme: UNIFORM",
        "stream: v",
        "std: 0.5",
        "slices: [{start: 1}, {}]",
    ],
)
def test_any_difference_that_matters_changes_the_digest(change: str) -> None:
    fields = {"name": "w", "shape": "[4, 4]", "scheme": "NORMAL"}
    base = ", ".join(f"{k}: {v}" for k, v in fields.items())
    fields.update([change.split(": ", 1)])
    other = ", ".join(f"{k}: {v}" for k, v in fields.items())
    digests = {layout(parse_plan(f"tensors: [{{{item}}}]")).digest for item in (base, other)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "name",
    ["bfloat16", "BF16", "bf16", "torch.bfloat16", "jnp.bfloat16", torch.bfloat16],
)
def test_element_types_go_by_any_common_name(name: object) -> None:
    assert normal((2,), dtype=name).dtype == "BF16"


def test_element_types_of_every_library_are_known() -> None:
    import jax.numpy as jnp
    import ml_dtypes

    assert normal((2,), dtype=np.float16).dtype == "F16"
    assert normal((2,), dtype=np.dtype("float64")).dtype == "F64"
    assert normal((2,), dtype=float).dtype == "F64"
    assert normal((2,), dtype=jnp.bfloat16).dtype == "BF16"
    assert normal((2,), dtype=ml_dtypes.float8_e5m2).dtype == "F8_E5M2"
    assert normal((2,), dtype=torch.float8_e4m3fn).dtype == "F8_E4M3"
    assert zeros((2,), dtype=torch.bool).dtype == "BOOL"
    assert zeros((2,), dtype="half").dtype == "F16"


BAD: list[tuple[str, str, str]] = [
    # the text, the path of the field, what the message must hold
    ("- 1", "file", "holds no mapping"),
    ("{", "file", "neither YAML nor JSON"),
    ("{seed: 7, tensor: []}", "tensor", "did you mean 'tensors'"),
    ("{seed: -1}", "seed", "is -1; it must be an integer within 0..2^64-1"),
    ("{seed: 18446744073709551616}", "seed", "is 18446744073709551616; it must be an integer"),
    ("{seed: many}", "seed", "is 'many'; it must be an integer"),
    ("{seed: 1, seed: 2}", "file", "the key 'seed' is there twice"),
    ('{"seed": 1, "seed": 2}', "file", "the key 'seed' is there twice"),
    ("tensors: [{name: w, scheme: ONES}]", "tensors[0].shape", "[] for a scalar"),
    ("tensors: [{name: w, shape: 5, scheme: ONES}]", "tensors[0].shape", "a list of integers"),
    (
        "tensors: [{name: w, shape: [2], scheme: NORMAL, std: .nan}]",
        "tensors[0].std",
        "a finite number",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: CONSTANT, dtype: I64, val: 9007199254740993}]",
        "tensors[0].val",
        "9007199254740993, which no double holds exactly",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES, slices: [[0, 1]]}]",
        "tensors[0].slices",
        "{start: ..., stop: ...}",
    ),
    ("{tensors: 3}", "tensors", "must be a list"),
    ("{tensors: [3]}", "tensors[0]", "mapping with name, shape and scheme"),
    ("tensors: [{name: w, shap: [2], scheme: ONES}]", "tensors[0].shap", "did you mean 'shape'"),
    (
        "tensors: [{name: w, shape: [2], scheme: KAIMING}]",
        "tensors[0].scheme",
        "KAIMING_NORMAL",
    ),
    ("tensors: [{name: w, shape: [2]}]", "tensors[0].scheme", "missing"),
    ("tensors: [{name: w, shape: [2], scheme: 99}]", "tensors[0].scheme", "number 99"),
    (
        "tensors: [{name: w, shape: [2.5], scheme: ONES}]",
        "tensors[0].shape",
        "is [2.5]; it must be",
    ),
    ("tensors: [{name: w, shape: two, scheme: ONES}]", "tensors[0].shape", "'two'"),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: F31}]", "tensors[0].dtype", "F31"),
    (
        "tensors: [{name: w, shape: [2], scheme: NORMAL, std: big}]",
        "tensors[0].std",
        "is 'big'; it must be a finite number",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES}, {name: w, shape: [2], scheme: ONES}]",
        "tensors[1].name",
        "unique",
    ),
    ("{[seed]: 1}", "file", "unhashable key"),
    ("? {seed: 1}\n: 2", "file", "unhashable key"),
    ("seed: !!bool maybe", "file", "not what its tag says"),
    ("seed: !!timestamp soon", "file", "not what its tag says"),
    (
        "tensors: [{name: w, shape: [2], scheme: CONSTANT, val: 1" + "0" * 400 + "}]",
        "tensors[0].val",
        "which no double holds exactly",
    ),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: true}]", "tensors[0].dtype", "True"),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: 1.5}]", "tensors[0].dtype", "1.5"),
    ("tensors: [{name: w, shape: ~, scheme: ONES}]", "tensors[0].shape", "[] for a scalar"),
    ("tensors: [{name: ~, shape: [], scheme: ONES}]", "tensors[0].name", "is missing"),
    ("tensors: [{name: '', shape: [], scheme: ONES}]", "tensors[0].name", "is empty"),
    (
        "tensors: [{name: 1.10, shape: [2], scheme: ONES}]",
        "tensors[0].name",
        "put it in quotes, '1.10'",
    ),
    (
        "tensors: [{name: .inf, shape: [2], scheme: ONES}]",
        "tensors[0].name",
        "put it in quotes, '.inf'",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: un\u0131form}]",
        "tensors[0].scheme",
        "did you mean 'UNIFORM'",
    ),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES, dtype: yes}]",
        "tensors[0].dtype",
        "is yes, which YAML reads as true",
    ),
    ("tensors: [{name: w, shape: [2], scheme: ONES, dtype: }]", "tensors[0].dtype", "is blank"),
    (
        "tensors: [{name: w, shape: [2], scheme: ONES, zero_rows: [0], zeroRows: [1]}]",
        "tensors[0].zeroRows",
        "is there twice",
    ),
]


@pytest.mark.parametrize(("text", "path", "message"), BAD)
def test_wrong_files_are_refused(text: str, path: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert [v.path for v in caught.value.violations] == [path]
    assert message in str(caught.value)


def test_a_file_can_only_hold_data() -> None:
    with pytest.raises(PlanError):
        parse_plan("!!python/object/apply:os.system ['true']")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "none.yaml")


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    for text in ('{"seed": "7"}', "seed: 7"):
        (tmp_path / "plan").write_text(text, "utf-8-sig")
        assert load_plan(tmp_path / "plan").seed == 7


@pytest.mark.parametrize(
    ("written", "line"), [("seed: 7".encode("utf-16"), 1), (b"seed: 7\n# caf\xe9\n", 2)]
)
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, written: bytes, line: int) -> None:
    (tmp_path / "plan.yaml").write_bytes(written)
    with pytest.raises(PlanError, match=r"plan\.yaml is not text in UTF-8.*save it") as caught:
        load_plan(tmp_path / "plan.yaml")
    assert [violation.line for violation in caught.value.violations] == [line]


def test_plans_are_values() -> None:
    import copy
    import pickle

    plan = plans.every_scheme()
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan
    assert plan.with_seed(8) != plan
    assert list(plan.select(["normal", "zeros"])) == ["normal", "zeros"]
    error = pickle.loads(pickle.dumps(PlanError(violations=())))
    assert isinstance(error, PlanError)


def test_a_truth_value_is_the_number() -> None:
    truth, number = (Plan({"mask": constant((2,), v, dtype="BOOL")}) for v in (True, 1))
    assert truth == number == from_proto(to_proto(truth))
    assert layout(truth).digest == layout(number).digest


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


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("seed: 0xff", "line 2: seed: is 0xff, which YAML reads as 255", "in decimal digits"),
        ("seed: 0b11", "line 2: seed: is 0b11, which YAML reads as 3", "in decimal digits"),
        ("seed: 0o17", "line 2: seed: is '0o17'", "must be an integer within 0..2^64-1"),
        ("seed: 1.0", "line 2: seed: is 1.0", "must be an integer within"),
        ("- {name: w, shape: [4.0], scheme: ONES}", "line 2: tensor 'w': shape: is [4.0]", "int"),
        (
            "- {name: w, shape: [4], scheme: 3}",
            "line 2: tensor 'w': scheme: is the number 3",
            "NORM",
        ),
        ("- {name: w, shape: [4], scheme: ONES, dtype: 2}", "'w': dtype: is the number 2", "BF16"),
    ],
)
def test_numbers_of_other_kinds_are_refused_with_line_and_remedy(
    text: str, place: str, remedy: str
) -> None:
    file = f"tensors:\n{text}" if text.startswith("-") else f"tensors: []\n{text}"
    with pytest.raises(PlanError) as caught:
        parse_plan(file)
    found, _, rest = str(caught.value).partition(";")
    assert place in found
    assert found.startswith("line 2: ")
    assert remedy in rest


CAME_FROM = {"model": "nets.Net", "torch": "2.13", "no": "yes", "a: b": "# c\n", "config": "'\""}


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("as_json", [False, True])
@settings(max_examples=30, deadline=None)
@example(CAME_FROM)
@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=4))
def test_provenance_is_in_files_and_messages_and_not_in_the_digest(
    count: int, as_json: bool, came_from: dict[str, str]
) -> None:
    tensors = {f"layers.{n}.weight": normal((2, 2)) for n in range(count)}
    plain, plan = Plan(tensors, 7), Plan(tensors, 7, provenance=came_from)
    assert plan == plain
    assert hash(plan) == hash(plain)
    assert plan.digest == plain.digest
    assert layout(plan).header == layout(plain).header
    assert parse_plan(format_plan(plan, json_form=as_json)).provenance == came_from
    assert from_proto(to_proto(plan)).provenance == came_from
    parts = plan.select([]), plan.shard({}), plan.with_seed(8)
    assert [part.provenance for part in parts] == [came_from] * 3


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("provenance: torch", "line 1: provenance: is 'torch'; it must be a mapping from text"),
        ("provenance: {torch: 2.13}", r"provenance.torch: is 2.13; it must be text: put"),
        ("provenance: {torch: [a]}", r"provenance.torch: is \['a'\]; it must be text"),
        ("provenance: {1: a}", "line 1: provenance: has the key '?1'?; it must be a mapping"),
        ("provenance: {torch: }", "line 1: provenance.torch: is blank; it must be text"),
        ("provenence: {torch: a}", "there is no such field: did you mean .provenance.*"),
    ],
)
def test_provenance_is_text(written: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse_plan(f"{written}\ntensors: []\n")
    many = "".join(f"- name: w{n}\n  shape: [2]\n  scheme: ZEROS\n" for n in range(100))
    with pytest.raises(PlanError, match=message):
        parse_plan(f"{written}\ntensors:\n{many}")


@pytest.mark.parametrize("wrong", [{"torch": 2}, {1: "torch"}, {"torch": "\ud800"}])
def test_provenance_that_no_file_can_hold_is_refused(wrong: Any) -> None:
    with pytest.raises(PlanError, match=r"provenance: has .*torch"):
        format_plan(Plan({}, provenance=wrong))
