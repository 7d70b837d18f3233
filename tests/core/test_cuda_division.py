"""The GPU's division has the bits of the IEEE quotient, for all that it divides.

`quotient` of source/cuda/device.h leaves out what a general division checks, and fuses
operations. Its operands follow from 31 bits of a word. A program built from the source divides
every pair that occurs, with every estimate of the reciprocal that a device may start from.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import initcore.backends
import pytest

from tests.host_cuda import compiler

PROGRAM = Path(__file__).parents[1] / "cuda_host" / "division.cpp"
SOURCE = Path(initcore.backends.__file__).parent / "source"


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    binary = tmp_path_factory.mktemp("division") / "division"
    command = [*compiler(), "-std=c++17", "-O2", "-ffp-contract=off", f"-I{SOURCE}"]
    done = subprocess.run(
        [*command, str(PROGRAM), "-o", str(binary)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    run = subprocess.run([str(binary)], capture_output=True, text=True, check=True, timeout=250)
    counted: dict[str, dict[str, int]] = json.loads(run.stdout)
    return counted


@pytest.mark.parametrize("formula", ["central", "tail"])
def test_every_quotient_of_the_formulas_has_the_ieee_bits(
    counts: dict[str, dict[str, int]], formula: str
) -> None:
    assert counts[formula]["pairs"] > 30_000_000
    assert counts[formula]["wrong"] == 0


def test_with_two_operations_less_some_quotients_would_be_wrong(
    counts: dict[str, dict[str, int]],
) -> None:
    """The estimate alone, corrected once: the comparison notices a last bit."""
    assert 0 < counts["central"]["wrong_without_refining"] < 100
