"""Checkpoints are read exactly as strictly as the safetensors library reads them.

Generated headers, right and wrong in every way that the format knows, are read by both.
INITSERVE_TEST_EXAMPLES sets their number.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import initcore as ic
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from initcore import Checkpoints, PlanError, layout
from initcore.generate import HeaderError, StoredTensor, read_header
from safetensors import SafetensorError, deserialize

EXAMPLES = int(os.environ.get("INITSERVE_TEST_EXAMPLES", "400"))

BITS = {"F64": 64, "F32": 32, "BF16": 16, "I8": 8, "BOOL": 8, "U64": 64, "F4": 4, "C64": 64}
BITS |= {"F8_E8M0": 8, "F6_E2M3": 6, "F8_E5M2FNUZ": 8}
NAMES = st.sampled_from(["w", "v", "layer.0.weight", "", "é", "\u2028", "a\nb"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
NUMBERS = st.sampled_from([0, 1, 2, 3, 8, -1, -0.0, 2.0, 1e999, 2**31, 2**63, 2**64, 10**30, True])
JSON = st.recursive(
    st.none() | NUMBERS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)


class Pairs(list):  # type: ignore[type-arg]
    """A JSON object as its pairs: keys may repeat."""


def text_of(value: Any) -> str:
    """JSON, with repeated keys and what only Python writes, such as NaN."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(k)}:{text_of(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return json.dumps(value)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Pairs, int]:
    """The entries of a right header, and the bytes of its data."""
    found, end = Pairs(), 0
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(BITS)))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        bits = BITS[dtype]
        for length in shape:
            bits *= length
        begin, end = end, end + bits // 8
        fields = Pairs([("dtype", dtype), ("shape", shape), ("data_offsets", [begin, end])])
        found.append((name, Pairs(draw(st.permutations(fields)))))
    order = draw(st.permutations(found))
    if draw(st.booleans()):
        metadata = draw(st.dictionaries(NAMES, st.text(max_size=3), max_size=2))
        order = [("__metadata__", draw(st.sampled_from([metadata, None]))), *order]
    return Pairs(order), end


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A safetensors file, with up to two things that may be wrong."""
    entries, size = draw(tensors())
    for _ in range(draw(st.integers(0, 2))):
        how = draw(st.sampled_from(CHANGES))
        size = how(draw, entries, size)
    text = text_of(entries)
    if draw(st.integers(0, 9)) == 0:
        where = draw(st.integers(0, len(text)))
        text = text[:where] + draw(st.sampled_from(ODD)) + text[where:]
    header = text.encode("utf-8", "surrogatepass")
    header = draw(st.sampled_from([b""] * 20 + [b" ", b"\n", b"\xef\xbb\xbf", b"\0"])) + header
    header += draw(st.sampled_from([b""] * 9 + [b" " * 5, b"\n\t ", b"\0", b"}", b"\xff", b"{}"]))
    length = len(header) + draw(st.sampled_from([0] * 30 + [-1, 1, -3, 10**8, 2**63]))
    return max(0, length).to_bytes(8, "little") + header + bytes(max(0, size))


def change_field(draw: st.DrawFn, entries: Pairs, size: int) -> int:
    tensors = [n for n, (_, entry) in enumerate(entries) if isinstance(entry, Pairs) and entry]
    if not tensors:
        return size
    entry = entries[draw(st.sampled_from(tensors))][1]
    number = draw(st.integers(0, len(entry) - 1))
    key, value = entry[number]
    how = draw(st.integers(0, 7))
    if how == 0:
        entry[number] = key, draw(JSON)
    elif how == 1:
        entry.pop(number)
    elif how == 2:
        entry.append((draw(st.sampled_from([key, "more", "é"])), draw(JSON | st.just(value))))
    elif how == 3 and isinstance(value, list) and value:
        place = draw(st.integers(0, len(value) - 1))
        entry[number] = key, [*value[:place], draw(NUMBERS), *value[place + 1 :]]
    elif how == 4 and isinstance(value, list) and len(value) == 2:
        by = draw(st.integers(-3, 9))
        entry[number] = key, [one + by if isinstance(one, int) else one for one in value]
    elif how == 5 and isinstance(value, list):
        entry[number] = key, [*value, *draw(st.lists(NUMBERS, min_size=1, max_size=70))]
    elif how == 6 and key == "dtype" and isinstance(value, str):
        new = draw(st.sampled_from(["F33", "f32", "F16", "F4", {value: None}, ""]))
        entry[number] = key, new
    return size


def change_tensors(draw: st.DrawFn, entries: Pairs, size: int) -> int:
    how = draw(st.integers(0, 5))
    if not entries:
        entries.append((draw(NAMES), draw(JSON)))
        return size
    number = draw(st.integers(0, len(entries) - 1))
    name, entry = entries[number]
    if how == 0:
        entries.pop(number)
    elif how == 1:
        entries.insert(draw(st.integers(0, len(entries))), (name, entry))
    elif how == 2:
        entries[number] = draw(st.sampled_from([*dict(entries), "__metadata__"])), entry
    elif how == 3 and isinstance(entry, Pairs):
        order = draw(st.permutations([value for _, value in entry]))
        by_field = dict(entry)
        fields = [by_field.get(field) for field in ("dtype", "shape", "data_offsets")]
        entries[number] = name, draw(st.sampled_from([fields, order]))
    elif how == 4:
        entries[number] = name, draw(JSON)
    else:
        entries.append(("__metadata__", draw(st.dictionaries(NAMES, JSON, max_size=2))))
    return size


def change_size(draw: st.DrawFn, entries: Pairs, size: int) -> int:
    return size + draw(st.integers(-3, 9))


CHANGES = [change_field, change_field, change_tensors, change_size]
ODD = [
    "\ud800",
    "\\ud800",
    "NaN",
    "\x01",
    ",",
    "[" * 126 + "]" * 126,
    "[" * 200,
    "-",
    '"',
    " ",
    "//",
]


def theirs(content: bytes) -> dict[str, tuple[str, tuple[int, ...], int]] | None:
    """What the library reads: element type, shape and bytes; None if it refuses the file."""
    try:
        found = deserialize(content)
    except SafetensorError:
        return None
    return {name: (form["dtype"], tuple(form["shape"]), len(form["data"])) for name, form in found}


def ours(content: bytes) -> dict[str, StoredTensor] | HeaderError:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            return read_header(file.fileno())
        except HeaderError as error:
            return error


# With numbers at the first bytes of tensors, so that their places are compared too.
def marked(content: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    data = content[8 + length :]
    return content[: len(content) - len(data)] + bytes(n % 251 for n in range(len(data)))


@settings(max_examples=EXAMPLES, deadline=None)
@given(files())
def test_every_header_is_read_as_the_library_reads_it(content: bytes) -> None:
    content = marked(content) if len(content) > 8 else content
    expected, found = theirs(content), ours(content)
    if expected is None:
        assert isinstance(found, HeaderError), "the library refuses it"
        message = str(found)
        assert 0 < len(message) < 500
        assert "\n" not in message
        return
    assert not isinstance(found, HeaderError), f"the library takes it: {found}"
    assert {
        name: (one.dtype, one.shape, one.end - one.begin) for name, one in found.items()
    } == expected
    data = {name: bytes(form["data"]) for name, form in deserialize(content)}
    assert {name: content[one.begin : one.end] for name, one in found.items()} == data


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(files())
def test_a_refusal_names_file_and_tensor(content: bytes) -> None:
    found = ours(content)
    assume(isinstance(found, HeaderError))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.safetensors").write_bytes(content)
        plan = ic.Plan({"body": ic.pretrained((2,), "x.safetensors", "w")})
        with pytest.raises(PlanError) as caught:
            Checkpoints(folder).check([entry.tensor for entry in layout(plan).entries])
    (violation,) = caught.value.violations
    assert (violation.tensor, violation.field) == ("body", "checkpoint")
    assert violation.message.endswith(str(found))
    assert "'x.safetensors', which is not a safetensors file: " in violation.message


W = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"w": {**W, "data_offsets": [1, 9]}}, "tensor 'w': data_offsets are [1, 9]; the data"),
        ({"w": W, "v": {**W, "data_offsets": [4, 12]}}, "tensor 'v': data_offsets are [4, 12]; te"),
        ({"w": {**W, "data_offsets": [0, 4]}}, "tensor 'w': data_offsets are [0, 4]; [2] of F32 n"),
        ({"w": {**W, "shape": [2.0]}}, "tensor 'w': shape is [2.0], not a list of lengths"),
        ({"w": {**W, "shape": [-2]}}, "tensor 'w': shape is [-2]"),
        ({"w": {**W, "dtype": "F33"}}, "tensor 'w': dtype is 'F33', which is no element type"),
        ({"w": {"dtype": "F32", "shape": [2]}}, "tensor 'w': data_offsets is missing"),
        ({"w": 3}, "tensor 'w': is 3, not an object"),
        ({"w": W, "__metadata__": {"step": 7}}, "__metadata__ 'step' is 7, not text"),
        ({}, "data_offsets end at 0; the file has 8 bytes of data"),
        ([], "the header is not a JSON object"),
    ],
)
def test_the_reason_names_tensor_field_and_value(entries: Any, reason: str) -> None:
    text = json.dumps(entries).encode()
    found = ours(len(text).to_bytes(8, "little") + text + bytes(8))
    assert isinstance(found, HeaderError)
    assert str(found).startswith(reason)


def test_a_header_is_read_where_no_file_in_memory_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(38, "Function not implemented")

    text = json.dumps({"w": W}).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(8)
    expected = ours(content)
    monkeypatch.setattr(os, "memfd_create", refuse)
    assert (
        ours(content) == expected == {"w": StoredTensor("F32", (2,), 8 + len(text), 16 + len(text))}
    )
    assert isinstance(ours(content + b"\0"), HeaderError)
