"""Plan files in the simple form are read as the YAML library would read them, or by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from initcore import Plan, normal, zeros
from initcore.wire import format_plan, parse_plan, plan_file
from initcore.wire.plan_lines import fields_in_braces, fields_in_lines
from initcore.wire.plan_text import Misread, Spelled, Unquoted, read_text

from tests import plans
from tests.core.plan_texts import exact, read, read_by_library

BY_HAND = """\
# A plan by hand.
seed: 7
tensors:
  # Tied to the head.
  - {name: embedding.weight, shape: [4096, 256], dtype: bf16, scheme: normal, std: 2e-2}

  - name: fc.weight
    shape: [1024,256]   # out, in
    scheme: KAIMING_NORMAL
    mode: 'fan_out'
    nonlinearity: "relu"
  - name: 0.bias
    shape: [1024]
    scheme: zeros
"""
WRAPPED = """\
seed: 7
tensors:
- {name: a.weight, shape: [4096, 1024], dtype: BF16, scheme: KAIMING_NORMAL, mode: FAN_OUT,
   nonlinearity: RELU}
- name: b
  shape: [3]
  scheme: LITERAL
  values: [0.5, 1.0,
    2.25]
"""
COMPOSED = """\
seed: 7
provenance:
  model: some.module.Class
  torch: 2.13.0+cpu
  config_sha256: 0a0000000000000000000000000000000000000000000000000000000000001e
tensors:
- name: qkv
  scheme: CONCATENATE
  parts:
  - name: q
    shape: [4, 6]
    scheme: NORMAL
    slices:
    - {start: 0, stop: 2}
    - {}
  - {name: k, shape: [4, 6], scheme: ZEROS}
  axis: 0
"""
TEXTS = [
    BY_HAND,
    WRAPPED,
    COMPOSED,
    format_plan(Plan({"w": normal((40, 30), std=1e-5), "b.1": zeros((5,))}, 2**64 - 1)),
    "tensors:\n- {name: 'a, b: [c', shape: [4], scheme: ones}\n- name: \"no\"\n  shape: []\n"
    "  scheme: zeros\n",
    "tensors:\n- name: a\n  shape: []\n  scheme: ones\n  stream: s\n",
    "tensors:\n- name: a\n  shape:\n  - 4\n  - 3\n  scheme: ones\n",
    "tensors:\n- name: a\n  shape:\n    - 4\n  scheme: ones\n",
]
PIECES = [
    *(*"\n :-,#[]{}'\"&*!|>%@`?~=.<\\_+0123456789eExabnoyYN\t\r\x85\u2028\x07\ufeff", "é", "😀"),
    *("\n\n", "\n  ", "\n    ", "\n- ", "\n# a comment\n", "\n  # a comment,\n", " # a, comment"),
    *("yes", "null", "0x10", "010", "1_000", "1:30", "2024-01-01", ".nan", "-.5", "1e5", "1.5e3"),
    *(": ", "- ", ", ", "{}", "[]", "''", "---\n", "...\n", "name: x", "std: 1", "  std: 1.10\n"),
    *("|\n", ">-\n", "&a ", "*a", "!!str ", "<<: ", "? ", "'a\n\n  b'", '"a,\n  b"', "a,\n  b"),
]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the YAML library reads as a whole."""
    texts: list[str] = []

    def seen(text: str, source: str) -> Any:
        texts.append(text)
        return read_text(text, source)

    monkeypatch.setattr(plan_file, "read_text", seen)
    return texts


@pytest.mark.parametrize("text", TEXTS)
def test_the_simple_form_is_read_without_the_library(text: str, library: list[str]) -> None:
    found = read(text)
    assert library == []
    assert found == read_by_library(text)
    assert library == [text]
    assert isinstance(found, tuple)


@pytest.mark.parametrize(
    "body",
    [
        "  scheme: ones\n  stream: x # one,\n  dtype: f64\n",
        "  stream: x # one,\n  scheme: ones\n",
        "  stream: 'a,\n   b'\n  scheme: ones\n",
        "  stream: 'a\n\n   # b'\n  scheme: ones\n",
        "  stream: |\n    a\n\n    # b\n  scheme: ones\n",
        "  stream: a,\n    b\n  scheme: ones\n",
        "  stream: a\n    b\n  scheme: ones\n",
        "  stream: a\n  scheme: ones\n  stream: b\n",
        "  stream: yes\n  scheme: ones\n",
        "  stream: 1e5\n  scheme: ones\n",
        "  stream: a#b\n  scheme: ones\n",
        "  stream: a: b\n  scheme: ones\n",
        "  seed: 0x10\n  scheme: ones\n",
        "  seed: 18446744073709551616\n  scheme: ones\n",
        "  name: b\n  scheme: ones\n",
        "  scheme: &a ones\n  stream: *a\n",
        "  scheme: ones\n...\n",
        "  scheme: ones\n---\n",
        "  scheme: ones\n   stream: a\n",
    ],
)
def test_texts_that_a_simpler_reader_would_take_wrong(body: str) -> None:
    text = f"tensors:\n- name: a\n  shape: [3]\n{body}"
    assert read(text) == read_by_library(text)
    one_more = f"{text}- name: b\n  shape: []\n  scheme: zeros\n"
    assert read(one_more) == read_by_library(one_more)


@pytest.mark.parametrize("name", plans.CASES)
def test_each_scheme_is_written_in_the_simple_form(name: str, library: list[str]) -> None:
    plan = Plan({"layers.0.w": plans.CASES[name], "0.weight": plans.CASES[name]}, 7)
    assert parse_plan(format_plan(plan)) == plan
    assert library == []


@settings(max_examples=200, deadline=None)
@given(plans.plans())
def test_plans_are_read_as_by_the_library(plan: Plan) -> None:
    text = format_plan(plan)
    assert read(text) == read_by_library(text)


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from(TEXTS),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 8), st.sampled_from(PIECES)),
        min_size=1,
        max_size=3,
    ),
)
def test_a_text_that_is_nearly_simple_is_read_as_by_the_library(
    text: str, edits: list[tuple[float, int, str]]
) -> None:
    for place, cut, piece in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + cut :]
    assert read(text) == read_by_library(text)


SCALARS = st.one_of(
    st.sampled_from(PIECES),
    st.integers().map(str),
    st.floats().map(repr),
    st.text("0123456789+-._eExobnfyatrul", min_size=1, max_size=8),
    st.text("0123456789abcdef", min_size=1, max_size=64),
)
KEYS = st.sampled_from(["a", "b", "shape", "yes", "Null", "on", "x1"])


def flow(value: Any) -> str:
    """Plain data in brackets and braces."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {flow(inner)}' for key, inner in value.items())}}}"
    return f"[{', '.join(map(flow, value))}]" if isinstance(value, list) else str(value)


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=800, deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), st.booleans())
@example({"a": "1e5", "b": ["0.1", "1.10", "010", "yes", "0b11", "1e+999", "1.0e+999"]}, True)
@example({"a": "-0", "b": ["-0.0", "2024-01-01", "12e4", "0.e-1", "9" * 30]}, False)
def test_fields_are_those_of_the_library(form: dict[str, Any], in_braces: bool) -> None:
    assume("".join(flow(form).split("\n")).isprintable())
    if in_braces:
        text = flow(form)
        found, whole = fields_in_braces(text), [fields_in_braces(text)]
        text = f"- {text}"
    else:
        text = "".join(f"  {key}: {flow(value)}\n" for key, value in form.items())
        found = whole = fields_in_lines(text)
    if found is not None:
        assert exact(whole) == exact(read_text(text, "the text")[0])


def test_scalars_that_people_misread_are_told_apart() -> None:
    found = fields_in_lines("  a: 1e5\n  b: 1.10\n  c: 010\n  d: yes\n  e: null\n  f: true\n")
    assert found is not None
    kinds = [type(value) for value in found.values()]
    assert kinds == [Unquoted, Spelled, Misread, Misread, type(None), bool]


def test_an_error_names_its_line() -> None:
    for text in TEXTS:
        wrong = text.replace("scheme: ", "scheme: no_", 1)
        violation, *_ = read(wrong)
        assert wrong.splitlines()[violation.line - 1].lstrip(" -").startswith(("scheme", "{name"))


def test_deep_nesting_is_left_to_the_library() -> None:
    lines = "".join(f"{'  ' * depth}parts:\n{'  ' * depth}- name: p\n" for depth in range(1, 3000))
    for text in (f"tensors:\n- name: a\n{lines}", f"tensors:\n- {{name: a, b: {'[' * 10**5}}}\n"):
        assert isinstance(read(text), tuple | list)
        assert read(text) == read_by_library(text)
