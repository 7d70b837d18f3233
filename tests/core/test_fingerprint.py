"""Fingerprints add up over any cut, find any change, and have the bits that their page says."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Fingerprint, Plan, VirtualFile, fingerprint, layout, normal
from initcore.backends import load
from initcore.backends.native import mix as mix_native
from initcore.dtypes import DTYPES
from initcore.file.fingerprints import (
    Fingerprinter,
    blocks,
    fingerprints_between,
    key,
    mix_reference,
    mixer,
)
from initcore.stream.draws import Runs
from initcore.wire.plan_file import plan_from_form
from numpy.typing import NDArray

from tests import native_targets, plans
from tests.reimplementation import fingerprint_v1

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "golden_fingerprints").glob("*.json"))
FROZEN = "e23a26cb20bcd891ecf0a48d2853c95922d2c39dc3232b587bc76899924338a5"

Array = NDArray[Any]

MIXERS = ["numpy", *native_targets.NAMES]


def mix_of(name: str) -> Any:
    return mix_reference if name == "numpy" else native_targets.target(name).mix


def golden(name: str) -> list[dict[str, Any]]:
    path = ROOT / "tests" / "golden_fingerprints" / f"{name}.json"
    cases: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cases"]
    return cases


@pytest.mark.parametrize("mixer", MIXERS)
def test_arrays_have_the_golden_fingerprints(mixer: str) -> None:
    mix = mix_of(mixer)
    for case in golden("arrays"):
        bits = np.frombuffer(bytes.fromhex(case["data"]), dtype=f"<u{case['size']}")
        bounds = [(start, stop) for start, stop in case["bounds"]]
        maker = Fingerprinter(case["name"], case["shape"], bounds, mix)
        assert str(maker.stretch(0, bits)) == case["fingerprint"], case["name"]


@pytest.mark.parametrize("mixer", MIXERS)
def test_plans_have_the_golden_fingerprints(mixer: str) -> None:
    mix = mix_of(mixer)
    for case in golden("plans"):
        file = VirtualFile(layout(plan_from_form(case["plan"])), load("numpy"))
        (found,) = fingerprints_between(file, file.layout.data_begin, file.size, mix=mix).values()
        assert str(found) == case["fingerprint"], case["plan"]


def test_the_page_gives_the_golden_fingerprints() -> None:
    for case in golden("arrays"):
        data = bytes.fromhex(case["data"])
        found = fingerprint_v1.fingerprint(
            case["name"], case["shape"], case["bounds"], data, case["size"]
        )
        assert found == case["fingerprint"], case["name"]


def test_the_values_on_the_page_are_golden() -> None:
    page = (ROOT / "docs" / "fingerprint-v1.md").read_text("utf-8")
    shown = re.findall(r"^\| `(.+?)` \| (\[.*?\]) .*`([0-9a-f]{32})` \|$", page, re.MULTILINE)
    known = {(c["name"], str(c["shape"]), c["fingerprint"]) for c in golden("arrays")}
    assert len(shown) == 5
    assert set(shown) <= known


def test_nobody_edited_the_golden_fingerprints() -> None:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES}
    listed = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    assert hashlib.sha256(listed.encode()).hexdigest() == FROZEN


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_adds_up_to_the_whole(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 7), max_size=4)))
    kind = data.draw(st.sampled_from(["u1", "i2", "f4", "f8"]))
    raw = data.draw(st.binary(min_size=8 * math.prod(shape), max_size=8 * math.prod(shape)))
    values = np.frombuffer(raw, dtype=kind)[: math.prod(shape)].reshape(shape)
    whole = fingerprint("w", values)
    total = Fingerprint()
    cuts = [sorted({0, data.draw(st.integers(0, size)), size}) for size in shape]
    for place in np.ndindex(*(len(cut) - 1 for cut in cuts)):
        bounds = [(cut[i], cut[i + 1]) for cut, i in zip(cuts, place, strict=True)]
        part = values[tuple(slice(*pair) for pair in bounds)]
        total += fingerprint("w", part, shape=shape, bounds=bounds)
    assert total == whole


@pytest.mark.parametrize("mixer", MIXERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mixer_mixes_as_numpy_does(mixer: str, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 40))
    starts = data.draw(st.lists(st.integers(0, 2**64 - 41), min_size=1, max_size=200))
    runs = Runs(np.array(starts, dtype=np.uint64), length)
    size = data.draw(st.sampled_from([1, 2, 4, 8]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    raw = np.random.default_rng(seed).bytes(runs.count * size)
    bits = np.frombuffer(raw, dtype=f"u{size}")
    assert mix_of(mixer)(runs, bits, (seed, 5)) == mix_reference(runs, bits, (seed, 5))


@pytest.mark.parametrize("mixer", MIXERS)
def test_threads_do_not_change_it(mixer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.arange(1_100_003, dtype=np.uint32)
    runs = Runs(np.array([2**33 - 7], dtype=np.uint64), len(bits))
    found = set()
    for threads in ("1", "3"):
        monkeypatch.setenv("INITSERVE_THREADS", threads)
        found.add(mix_of(mixer)(runs, bits, (1, 2)))
    assert len(found) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(0, 31))
def test_a_flipped_bit_changes_it(place: int, bit: int) -> None:
    values = np.arange(1000, dtype=np.uint32)
    changed = values.copy()
    changed[place] ^= np.uint32(1 << bit)
    assert fingerprint("w", values) != fingerprint("w", changed)


def test_it_depends_on_name_and_place_and_on_every_bit() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    others: list[tuple[str, Array]] = [
        ("v", values),
        ("w", values[[1, 0, 2, 3]]),
        ("w", values + np.float32(1)),
        ("w", np.array([-0.0, 1.0, 2.0, 3.0], dtype=np.float32)),
        ("w", values[:3]),
    ]
    found = {str(fingerprint(name, array)) for name, array in [("w", values), *others]}
    assert len(found) == 6
    assert fingerprint("w", np.empty((0, 3))) == Fingerprint()


def test_every_element_type_goes_by_its_bits() -> None:
    for dtype in DTYPES.values():
        values = np.array([0, 1, 1, 0, 1], dtype=dtype.numpy)
        data = values.tobytes()
        expected = fingerprint_v1.fingerprint("w", [5], [(0, 5)], data, dtype.itemsize)
        assert str(fingerprint("w", values)) == expected, dtype.name


def test_arrays_may_lie_in_any_way() -> None:
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    expected = fingerprint("w", values)
    padded = np.zeros((2, 3, 8), dtype=np.float32)
    padded[..., ::2] = values
    unaligned = np.frombuffer(b"\0" + values.tobytes(), dtype=np.uint8)[1:].view("f4")
    ways = [
        np.asfortranarray(values),
        padded[..., ::2],
        values.astype(">f4"),
        unaligned.reshape(values.shape),
    ]
    for way in ways:
        assert fingerprint("w", way) == expected
    pieces = list(blocks(padded[..., ::2], 7))
    assert [len(piece) for piece in pieces] == [7, 7, 7, 3]


def test_a_plans_tensors_are_fingerprinted_piece_by_piece() -> None:
    plan = plans.every_scheme(dtype="BF16").shard({"normal": (slice(2, 9), slice(3, 4))})
    file = VirtualFile(layout(plan), load("numpy"))
    total = dict.fromkeys(plan.tensors, Fingerprint())
    for begin in range(file.layout.data_begin, file.size, 64):
        end = min(begin + 64, file.size)
        for name, part in fingerprints_between(file, begin, end).items():
            total[name] += part
    for entry in file.layout.entries:
        tensor = entry.tensor
        values = file.array(entry)
        expected = fingerprint(tensor.name, values, shape=tensor.shape, bounds=tensor.bounds)
        assert total[tensor.name] == expected, tensor.name


def test_a_far_part_of_a_huge_tensor_costs_its_own_elements() -> None:
    shape = (2**30, 2**30)
    bounds = ((2**30 - 2, 2**30), (2**30 - 5, 2**30))
    plan = Plan({"w": normal(shape)}).shard({"w": bounds})
    file = VirtualFile(layout(plan), load("numpy"))
    (found,) = fingerprints_between(file, file.layout.data_begin, file.size).values()
    values = file.array(file.layout.entries[0])
    data = values.tobytes()
    assert str(found) == fingerprint_v1.fingerprint("w", shape, bounds, data, 4)


def test_the_text_and_the_bytes_are_the_lanes_little_endian() -> None:
    value = Fingerprint((1, 2**63))
    assert str(value) == "01000000000000000000000000000080"
    assert Fingerprint.parse(str(value)) == Fingerprint.from_bytes(bytes(value)) == value
    assert 3 * value == value + value + value == Fingerprint((3, 2**63))
    assert key("w") == struct.unpack(
        "<II", hashlib.sha256(b"initserve.v1/fingerprint\0w").digest()[:8]
    )


def test_what_is_no_fingerprint_is_refused() -> None:
    for text in ("", "00", "zz" * 16, "0" * 33):
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            Fingerprint.parse(text)
    with pytest.raises(ValueError, match="16 bytes"):
        Fingerprint.from_bytes(b"")
    with pytest.raises(TypeError, match="'w' has elements of type complex64"):
        fingerprint("w", np.zeros(2, dtype=np.complex64))
    values = np.zeros((2, 3), dtype=ml_dtypes.bfloat16)
    for shape, bounds in [((4, 3), None), ((4, 3), [(3, 5), (0, 3)]), ((4, 3), [(0, 2)])]:
        with pytest.raises(ValueError, match="does not fit bounds"):
            fingerprint("w", values, shape=shape, bounds=bounds)


def test_the_numpy_backend_stays_with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mixer("numpy") is mix_reference
    monkeypatch.setenv("INITSERVE_BACKEND", "numpy")
    assert mixer() is mix_reference
    assert mixer("cupy") is mixer("native") is mix_native
    monkeypatch.setenv("INITSERVE_BACKEND", "auto")
    assert mixer() is mix_native
