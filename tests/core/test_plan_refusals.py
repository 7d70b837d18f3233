"""Plan files that are wrong are refused: the field, the line, what is wrong and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from initcore import PlanError, load_plan
from initcore.wire.plan_file import parse_plan

BAD: list[tuple[str, str, str]] = [
    # the text, the path of the field, what the message must hold
    ("- 1", "file", "has no keys"),
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


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        ("seed: 7\ntensors:\n- {name: a, shape: [2,\n  bad: : x\n", 4, "at column 8"),
        ("seed: 7\n\ttensors: x\n", 2, "tab character.* at column 1"),
        ("seed: 7\ntensors:\n- {name: a}\n  - b\n", 4, "at column 3.* that begins on line"),
        ("seed: *x\n", 1, "undefined alias.* at column 7"),
        ("[1, 2\n", 2, "at column 1.* that begins on line 1"),
    ],
)
def test_text_that_is_no_yaml_is_one_line_with_the_place(text: str, line: int, place: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text, "plan.yaml")
    (violation,) = caught.value.violations
    assert violation.line == line
    assert re.search(place, violation.message)
    assert "\n" not in violation.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensors: " + "[" * 100_000, "500 brackets are open at once"),
        ("tensors: " + "{a: " * 100_000, "500 brackets are open at once"),
        ("\n".join(" " * depth + "a:" for depth in range(3000)), "a line begins with 2000 spaces"),
        ("# " + "]" * 9999 + "\ntensors: " + "[" * 100_000, "500 brackets are open at once"),
        ("- " * 50_000 + "a", "a line begins with 2000 spaces or dashes"),
    ],
)
def test_text_that_is_nested_without_end_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse_plan(text)
