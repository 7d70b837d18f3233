"""Streams: each (purpose, seed, name) its own, the same in every process."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout, normal
from initcore.backends import load
from initcore.backends.numpy import words_at
from initcore.stream.keys import MASK, VALUE, Stream, derive

from tests import plans

SEEDS = st.integers(0, 2**64 - 1)


def test_a_stream_is_the_first_sixteen_bytes_of_the_digest() -> None:
    message = b"initserve.v1/value\0" + (7).to_bytes(8, "little") + b"fc.weight"
    head = hashlib.sha256(message).digest()[:16]
    assert derive(VALUE, 7, "fc.weight") == Stream(*np.frombuffer(head, "<u4").tolist())


@given(SEEDS, SEEDS, st.text(max_size=20), st.text(max_size=20))
def test_other_seeds_names_and_purposes_are_other_streams(
    seed: int, other_seed: int, name: str, other_name: str
) -> None:
    streams = {
        derive(purpose, s, n)
        for purpose in (VALUE, MASK)
        for s in (seed, other_seed)
        for n in (name, other_name)
    }
    assert len(streams) == 2 * len({seed, other_seed}) * len({name, other_name})


@given(SEEDS, st.integers(0, 2**62), st.lists(st.integers(0, 5000), min_size=1, max_size=50))
def test_a_word_depends_on_its_position_alone(seed: int, base: int, offsets: list[int]) -> None:
    stream = derive(VALUE, seed, "w")
    index = np.array(offsets, dtype=np.uint64) + np.uint64(base)
    neighbours = words_at(stream, np.arange(base, base + 5001, dtype=np.uint64))
    assert np.array_equal(words_at(stream, index), neighbours[offsets])


def test_another_seed_or_name_gives_other_weights() -> None:
    def values(seed: int, name: str) -> np.ndarray:
        laid_out = layout(Plan({name: normal((10_000,))}, seed))
        return VirtualFile(laid_out, load("numpy")).array(laid_out.entries[0])

    base = values(7, "w")
    for other in (values(8, "w"), values(7, "v"), values(7 + 2**32, "w")):
        assert (base == other).mean() < 0.001
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.05


def test_another_process_gives_the_same_file() -> None:
    script = (
        "import hashlib; from initcore import *; from initcore.backends import load\n"
        "from tests.plans import every_scheme\n"
        "file = VirtualFile(layout(every_scheme()), load('numpy'))\n"
        "print(hashlib.sha256(file.read(0, file.size)).hexdigest())"
    )
    theirs = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    file = VirtualFile(layout(plans.every_scheme()), load("numpy"))
    assert theirs == hashlib.sha256(file.read(0, file.size)).hexdigest()


def test_words_are_equally_likely_and_unrelated() -> None:
    words = words_at(derive(VALUE, 1, "w"), np.arange(2**20, dtype=np.uint64))
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 32)
    assert (abs(bits.mean(axis=0) - 0.5) < 5 * 0.5 / 2**10).all()
    u = words / 2**32
    for lag in (1, 2, 3, 4, 64, 1024):
        assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5 / 2**10
