"""An unknown name is answered with the name that is the same here, not one that looks alike."""

from __future__ import annotations

from typing import Any

import pytest
from initcore import Plan, PlanError, layout, variance_scaling
from initcore.plan import SCHEMES, suggestion
from initcore.plan.schemes import DISTRIBUTIONS, MODES, TORCH_MODES
from initcore.wire.plan_file import parse_plan


def refused(item: str) -> Any:
    """The one violation of a plan file with this tensor."""
    with pytest.raises(PlanError) as caught:
        parse_plan(f"tensors: [{item}]")
    (violation,) = caught.value.violations
    return violation


FIELDS = (
    "name",
    "shape",
    "dtype",
    "scheme",
    "std",
    "mean",
    "a",
    "b",
    "val",
    "axis",
    "axes",
    "mode",
)
MEANT: list[tuple[str, Any, str]] = [
    ("untruncated_normal", DISTRIBUTIONS, "did you mean 'normal'?"),
    ("trunc_normal", DISTRIBUTIONS, "did you mean 'truncated_normal'?"),
    ("truncated_normal", SCHEMES, "did you mean 'trunc_normal'?"),
    ("TruncatedNormal", SCHEMES, "did you mean 'trunc_normal'?"),
    ("random_normal", SCHEMES, "did you mean 'normal'?"),
    ("RandomUniform", SCHEMES, "did you mean 'uniform'?"),
    ("xavier", SCHEMES, "did you mean 'xavier_uniform' or 'xavier_normal'?"),
    ("glorot", SCHEMES, "did you mean 'glorot_uniform' or 'glorot_normal'?"),
    ("he", SCHEMES, "did you mean 'he_uniform' or 'he_normal'?"),
    ("kaiming", SCHEMES, "did you mean 'kaiming_uniform' or 'kaiming_normal'?"),
    ("GlorotUniform", SCHEMES, "did you mean 'glorot_uniform'?"),
    ("const", SCHEMES, "did you mean 'constant'?"),
    ("zero", SCHEMES, "did you mean 'zeros'?"),
    ("one", SCHEMES, "did you mean 'ones'?"),
    ("orthogonal_", SCHEMES, "did you mean 'orthogonal'?"),
    ("kaiming_normal_", SCHEMES, "did you mean 'kaiming_normal'?"),
    ("unifrom", SCHEMES, "did you mean 'uniform'?"),
    ("xyzzy", MODES, "use one of fan_in, fan_out, fan_avg, fan_geo_avg"),
    ("fan_inn", TORCH_MODES, "did you mean 'fan_in'?"),
    ("stddev", FIELDS, "did you mean 'std'?"),
    ("float8", ("F64", "F8_E4M3", "F8_E5M2"), "did you mean 'F8_E4M3' or 'F8_E5M2'?"),
    ("in_axis", ("axis", "layout"), "did you mean 'layout'?"),
    ("out_axis", ("axis", "layout"), "did you mean 'layout'?"),
]


@pytest.mark.parametrize(("name", "known", "text"), MEANT)
def test_suggestions_lead_to_the_name_that_is_the_same(name: str, known: Any, text: str) -> None:
    assert text in suggestion(name, known)
    capitals = suggestion(name, [known_name.upper() for known_name in known])
    assert capitals.lower() == suggestion(name, known).lower()


def test_suggestions_of_plan_files_do_too() -> None:
    assert (
        "did you mean 'layout'"
        in refused("{name: w, shape: [2, 2], scheme: lecun_normal, out_axis: -1}").message
    )
    assert (
        "did you mean 'TRUNC_NORMAL'"
        in refused("{name: w, shape: [2], scheme: truncated_normal}").message
    )
    text = "{name: w, shape: [2, 2], scheme: variance_scaling, distribution: untruncated_normal}"
    assert "did you mean 'NORMAL'" in refused(text).message


def test_torchs_modes_say_which_scheme_has_the_others() -> None:
    plan = parse_plan("tensors: [{name: w, shape: [2, 2], scheme: kaiming_normal, mode: fan_avg}]")
    with pytest.raises(PlanError, match="only variance_scaling takes fan_avg"):
        layout(plan)
    assert layout(Plan({"w": variance_scaling((2, 2), mode="fan_avg")}))
