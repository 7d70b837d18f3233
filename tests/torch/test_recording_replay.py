"""A recording repeats its model: to the bit with torch's draws, in distribution with a plan's.

`tests/exhaustive/recorded_models.py` does the same for every type of transformers.
"""

from __future__ import annotations

from collections.abc import Callable

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
from initclient.torch._model import members
from initclient.torch._record import replay
from initclient.torch._record.building import build
from initclient.torch._trace import NoValueError, same_bytes
from scipy import stats
from torch import nn

from tests.torch.recordings import UNLIKELY
from tests.torch.rectangles import pieces
from tests.torch.small_models import MODULES, TRANSFORMERS

ALL = {**TRANSFORMERS, **MODULES}


def plain(make: Callable[[], nn.Module], seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {member.name: member.tensor.detach() for member in members(make())}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("kind", ALL)
def test_the_recorded_operations_give_the_bits_of_the_plain_model(kind: str, device: str) -> None:
    built = build(ALL[kind], device)
    right, wrong = replay(built, 5), replay(built, 6)
    expected = plain(ALL[kind], 5)
    moved = 0
    for member in members(built.model):
        content = built.trace.read(member.tensor)
        assert same_bytes(right.value(content), expected[member.name]), member.name
        differs = not same_bytes(wrong.value(content), expected[member.name])
        assert differs == content.is_random, member.name
        moved += differs
    assert moved or kind.endswith("Norm") or kind in ("BatchNorm2d", "PReLU")


@pytest.mark.parametrize("kind", ALL)
def test_recordings_on_meta_and_on_the_cpu_agree(kind: str) -> None:
    def described(device: str) -> dict[str, str]:
        recording = ict.record(ALL[kind], device=device)
        return {name: recording.explain(name) for name in recording._names}

    assert described("meta") == described("cpu") == described("meta")


@pytest.mark.parametrize("kind", ALL)
def test_a_plan_has_the_model_s_distributions(kind: str) -> None:
    """Each rectangle of one law by a KS test, and what is not drawn to the bit."""
    recording = ict.record(ALL[kind])
    assert not recording.refused
    plan = recording.plan(seed=1)
    values = ic.fetch(plan, target="local")
    expected = plain(ALL[kind], 7)
    assert list(values) == [m.name for m in members(recording.model) if m.persistent]
    random = {name for name, one in recording._found.items() if one.expression.is_random}
    for name, made in values.items():
        found, wanted = np.asarray(made), expected[name].numpy()
        if recording._names[name] not in random:
            assert (found == wanted).all(), name
            continue
        assert np.array_equal(found == 0, wanted == 0), name
        places = [
            place for place, _ in pieces(recording._found[recording._names[name]].composition)
        ]
        for place in [..., *places]:
            mine, theirs = found[place], wanted[place]
            if mine.size >= 100 and mine.any():
                outcome = stats.ks_2samp(mine[mine != 0], theirs[mine != 0])
                assert outcome.pvalue > UNLIKELY, (name, place)


class Halves(nn.Module):
    """A weight of two rectangles, one within the other's columns."""

    def __init__(self, stds: tuple[float, float]) -> None:
        super().__init__()
        first = torch.cat([torch.randn(16, 16) * stds[0], torch.zeros(16, 8)], 1)
        self.weight = nn.Parameter(torch.cat([first, torch.randn(16, 24) * stds[1]]))


def test_rectangles_that_have_changed_places_are_found() -> None:
    torch.manual_seed(7)
    recording = ict.record(Halves, (1.0, 0.1))
    found = list(pieces(recording._found["weight"].composition))
    assert [place for place, _ in found] == [
        (slice(0, 16), slice(0, 16)),
        (slice(0, 16), slice(16, 24)),
        (slice(16, 32), slice(0, 24)),
    ]
    made = ic.fetch(recording.plan(seed=1), target="local")["weight"]
    right, swapped = (Halves(stds).weight.detach().numpy() for stds in ((1.0, 0.1), (0.1, 1.0)))
    for place in (found[0][0], found[2][0]):
        assert stats.ks_2samp(made[place].ravel(), right[place].ravel()).pvalue > UNLIKELY
        assert stats.ks_2samp(made[place].ravel(), swapped[place].ravel()).pvalue < UNLIKELY


def test_values_of_a_draw_by_number_need_the_draw() -> None:
    built = build(MODULES["Linear"], "meta")
    from initclient.torch._trace import Evaluation

    with pytest.raises(NoValueError, match="drawn at random"):
        Evaluation().value(built.trace.read(built.model.weight))
