"""One plan of all stages: that of the whole model, whatever rank has which part."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import initclient.torch as ict
from hypothesis import given
from hypothesis import strategies as st
from initclient._plan.joining import merged
from torch import nn

from tests.torch.joining import RULES, Net
from tests.torch.launching import run_ranks


def test_stages_have_the_plan_of_the_whole_model(tmp_path: Path) -> None:
    for rank, (status, text) in enumerate(run_ranks("tests.torch.joining", 2, tmp_path / "r")):
        assert status == 0, text
        assert f"rank {rank}: 8 plans" in text


def test_one_process_has_its_own_plan() -> None:
    assert ict.plan(Net(), RULES, join=True) == ict.plan(Net(), RULES)
    assert ict.plan(nn.Linear(2, 2), join=True) == ict.plan(nn.Linear(2, 2))


BLOCK = ("norm.weight", "attention.qkv.weight", "attention.out.weight", "mlp.up.weight")
NAMES = [
    "tokens.weight",
    *(f"decoder.layers.{layer}.{name}" for layer in range(12) for name in BLOCK),
    *(f"decoder.final.experts.{expert}.weight" for expert in range(11)),
    "decoder.norm.weight",
    "head.weight",
]


@given(st.lists(st.integers(1, len(NAMES) - 1), min_size=1, max_size=5, unique=True))
def test_stages_are_joined_in_the_order_of_the_model(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(NAMES)]
    stages = [NAMES[first:last] for first, last in pairwise(bounds)]
    assert merged(stages) == NAMES


@given(st.integers(1, 6), st.integers(1, 4))
def test_virtual_stages_and_experts_are_joined_in_the_order_of_the_model(
    chunks: int, ranks: int
) -> None:
    def is_on(name: str, stage: int, rank: int) -> bool:
        parts = name.split(".")
        number = int(parts[2 if "layers" in parts else 3]) if len(parts) > 3 else None
        if number is None:
            return stage == (0 if parts[0] == "tokens" else chunks - 1)
        return number % chunks == stage if "layers" in parts else number % ranks == rank

    cells = [(stage, rank) for stage in range(chunks) for rank in range(ranks)]
    parts = [[name for name in NAMES if is_on(name, *cell)] for cell in cells]
    assert merged(parts) == NAMES


def test_lists_that_contradict_each_other_are_joined_all_the_same() -> None:
    assert merged([["a", "b"], ["b", "a"]]) == ["a", "b"]
    assert merged([["a.b", "a"], ["a.c"]]) == ["a", "a.b", "a.c"]
