"""All 2^32 words through z(w): oddness, error in ulp, mean and variance. `make exhaustive`.

Prints the tables of docs/normal-accuracy.md. Takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import mpmath
import numpy as np
import scipy.special
from initcore.stream.quantile import TAIL, normal_quantile

CHUNK = 1 << 21
HALF = 1 << 31
EDGES = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0]


@dataclass
class Errors:
    """Errors of some words, in ulp: how many, their sum, the largest and where."""

    count: int = 0
    total: float = 0.0
    largest: float = 0.0
    word: int = 0
    above: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add(self, errors: np.ndarray, words: np.ndarray) -> None:
        """Counts in the errors of these words."""
        if not len(errors):
            return
        self.count += len(errors)
        self.total += float(errors.sum())
        self.above = [a + int((errors > k).sum()) for k, a in enumerate(self.above, start=1)]
        worst = int(errors.argmax())
        if errors[worst] > self.largest:
            self.largest, self.word = float(errors[worst]), int(words[worst])

    def join(self, other: Errors) -> None:
        """Counts in what another process found."""
        self.count += other.count
        self.total += other.total
        self.above = [a + b for a, b in zip(self.above, other.above, strict=True)]
        if other.largest > self.largest:
            self.largest, self.word = other.largest, other.word

    def row(self, name: str) -> str:
        """A line of the table."""
        shares = " | ".join(f"{100 * a / max(self.count, 1):.5f} %" for a in self.above)
        mean = self.total / max(self.count, 1)
        return (
            f"| {name} | {self.count} | {mean:.4f} | {self.largest:.3f} | "
            f"{self.word:08x} | {shares} |"
        )


@dataclass
class Part:
    """What one range of words gave."""

    not_odd: int
    sum: float
    squares: float
    regions: dict[str, Errors]


def check(begin: int) -> Part:
    """The words 2^31 + begin .. and their complements."""
    k = np.arange(begin, begin + CHUNK, dtype=np.uint64)
    words = (k + HALF).astype(np.uint32)
    z, mirrored = normal_quantile(words), normal_quantile(~words)
    wide, mirrored_wide = z.astype(np.float64), mirrored.astype(np.float64)
    m = np.uint64(HALF - 1) - k
    # ndtri of the lower half, where p = (m + 1/2) / 2^32 has all its digits.
    exact = -scipy.special.ndtri((m.astype(np.float64) + 0.5) / 2.0**32)
    ulp = np.ldexp(1.0, np.frexp(exact)[1] - 24)
    errors = np.abs(wide - exact) / ulp
    regions = {"all": Errors(), "central": Errors(), "tail": Errors()}
    regions["all"].add(errors, words)
    tail = m < int(TAIL)
    regions["central"].add(errors[~tail], words[~tail])
    regions["tail"].add(errors[tail], words[tail])
    for low, high in pairwise(EDGES):
        inside = (exact >= low) & (exact < high)
        regions[f"z {low} to {high}"] = Errors()
        regions[f"z {low} to {high}"].add(errors[inside], words[inside])
    return Part(
        not_odd=int((z.view(np.uint32) != mirrored.view(np.uint32) ^ np.uint32(HALF)).sum()),
        sum=float((wide + mirrored_wide).sum()),
        squares=float((wide**2).sum() + (mirrored_wide**2).sum()),
        regions=regions,
    )


def reference_error(count: int = 1000) -> float:
    """The largest relative error of scipy's ndtri at random words, against 40 digits."""
    draw = random.Random(0)
    worst = 0.0
    with mpmath.workdps(40):
        for _ in range(count):
            m = draw.randrange(1 << draw.randrange(1, 32))
            p = (mpmath.mpf(m) + 0.5) / 2**32
            ours = float(scipy.special.ndtri((m + 0.5) / 2.0**32))
            exact = mpmath.findroot(lambda x, p=p: mpmath.ncdf(x) - p, ours)
            worst = max(worst, float(abs(ours / exact - 1)))
    return worst


def main() -> int:
    """Runs everything; 0 if the promise of docs/normal-accuracy.md holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    began = time.monotonic()
    print(
        f"reference: scipy ndtri, relative error at most {reference_error():.1e} (against mpmath)"
    )
    total: dict[str, Errors] = {}
    not_odd, sums, squares = 0, [], []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for done, part in enumerate(pool.map(check, range(0, HALF, CHUNK)), start=1):
            not_odd += part.not_odd
            sums.append(part.sum)
            squares.append(part.squares)
            for name, errors in part.regions.items():
                total.setdefault(name, Errors()).join(errors)
            if sys.stderr.isatty():
                share = done * CHUNK / HALF
                print(f"\r{share:6.1%}  {time.monotonic() - began:.0f} s", end="", file=sys.stderr)
    print(f"words w with z(~w) != -z(w): {2 * not_odd} of 2^32")
    mean, variance = math.fsum(sums) / 2**32, math.fsum(squares) / 2**32
    print(f"mean {mean:.3g}, variance - 1 = {variance - 1:.3e}\n")
    print("| words | pairs | mean ulp | max ulp | at w | > 1 ulp | > 2 | > 3 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, errors in total.items():
        print(errors.row(name))
    everything = total["all"]
    good = (
        not_odd == 0
        and mean == 0.0
        and abs(variance - 1) < 1e-6
        and everything.largest < 4
        and everything.total / everything.count < 0.5
    )
    print(f"\n{'holds' if good else 'FAILS'} ({time.monotonic() - began:.0f} s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
