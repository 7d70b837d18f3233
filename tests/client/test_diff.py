"""diff names the differences between two plans, and whether they change values."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from hypothesis import given, settings
from initclient._inspect import differences as _diff
from initclient.cli import main

from tests import plans

Capture = pytest.CaptureFixture[str]
BASE = ic.Plan(
    {
        "fc.weight": ic.kaiming_normal((32, 16), nonlinearity="relu"),
        "fc.bias": ic.zeros((32,)),
        "head.weight": ic.orthogonal((8, 32)),
    },
    seed=7,
)


def changed(name: str, tensor: ic.Tensor) -> ic.Plan:
    return ic.Plan({**BASE.tensors, name: tensor}, BASE.seed)


@given(plans.plans())
@settings(max_examples=40, deadline=None)
def test_a_plan_does_not_differ_from_itself(plan: ic.Plan) -> None:
    found = ic.diff(plan, ic.Plan(dict(plan.tensors), plan.seed))
    assert found.same
    assert found.same_values
    assert not found.changed
    assert found.alike == tuple(plan.tensors)


def test_a_changed_argument_is_named_with_both_values() -> None:
    found = ic.diff(BASE, changed("head.weight", ic.orthogonal((8, 32), gain=0.5)))
    (one,) = found.changed
    assert (one.name, one.values, one.fields["gain"]) == ("head.weight", "different", (1.0, 0.5))
    assert found.alike == ("fc.weight", "fc.bias")
    assert not found.same
    assert "gain: 1 -> 0.5" in str(found)


@pytest.mark.parametrize(
    ("name", "tensor", "values", "fields"),
    [
        ("fc.weight", replace(BASE.tensors["fc.weight"], dtype="BF16"), "rounded", {"dtype"}),
        (
            "fc.weight",
            replace(BASE.tensors["fc.weight"], slices=((0, 8), (0, 16))),
            "other part",
            {"slices"},
        ),
        ("fc.weight", replace(BASE.tensors["fc.weight"], seed=8), "different", {"seed"}),
        ("fc.weight", replace(BASE.tensors["fc.weight"], stream="x"), "different", {"stream"}),
        (
            "fc.weight",
            replace(BASE.tensors["fc.weight"], zero_rows=(1,)),
            "different",
            {"zero_rows"},
        ),
        ("fc.bias", replace(BASE.tensors["fc.bias"], seed=8), "same", {"seed"}),
        ("fc.bias", ic.constant((32,), 0.0), "same", {"scheme", "val"}),
        ("fc.bias", ic.normal((32,), std=0.0), "same", {"scheme", "mean", "std"}),
    ],
)
def test_what_a_change_means_for_the_values_is_true(
    name: str, tensor: ic.Tensor, values: str, fields: set[str]
) -> None:
    other = changed(name, tensor)
    (one,) = ic.diff(BASE, other).changed
    assert (one.name, one.values, set(one.fields)) == (name, values, fields)
    old, new = (ic.fetch(plan, target="local")[name] for plan in (BASE, other))
    if values == "rounded":
        assert (old.astype(new.dtype) == new).all()
    elif values == "other part":
        assert (old[:8] == new).all()
    else:
        assert (old.tobytes() == new.tobytes()) == (values == "same")


def test_another_name_for_the_same_draw_is_no_other_value() -> None:
    # kaiming_normal(relu) with a fan in of 16 is a normal with this std, exactly.
    std = float(np.sqrt(2.0) / np.sqrt(16.0))
    found = ic.diff(BASE, changed("fc.weight", ic.normal((32, 16), std=std)))
    assert not found.same
    assert found.same_values


def test_another_seed_is_said_once_and_changes_what_is_drawn() -> None:
    found = ic.diff(BASE, BASE.with_seed(8))
    assert found.seeds == (7, 8)
    assert [(one.name, one.values, dict(one.fields)) for one in found.changed] == [
        ("fc.weight", "different", {}),
        ("head.weight", "different", {}),
    ]
    assert found.alike == ("fc.bias",)


def test_a_renamed_tensor_is_found_again() -> None:
    tensors = dict(BASE.tensors)
    tensors["mlp.weight"] = replace(tensors.pop("fc.weight"), stream="fc.weight")
    tensors["mlp.extra"] = ic.normal((2, 2))
    found = ic.diff(BASE, ic.Plan(tensors, 7))
    assert found.only_left == ("fc.weight",)
    assert found.only_right == ("mlp.weight", "mlp.extra")
    assert found.moved == (("fc.weight", "mlp.weight"),)
    assert "fc.weight -> mlp.weight" in str(found)
    assert "only in the right plan: mlp.extra" in str(found)


def test_fused_weights_are_known_to_hold_the_split_ones() -> None:
    parts = {f"{name}.weight": ic.xavier_uniform((8, 8)) for name in "qkv"}
    split = ic.Plan(parts, seed=3)
    fused = ic.Plan({"qkv.weight": ic.concatenate(parts)}, seed=3)
    there = [(name, "qkv.weight") for name in parts]
    assert ic.diff(split, fused).moved == tuple(there)
    assert ic.diff(fused, split).moved == tuple((b, a) for a, b in there)
    assert ic.diff(split, fused.with_seed(4)).moved == ()
    other = {**parts, "k.weight": ic.xavier_uniform((8, 8), gain=2.0)}
    (one,) = ic.diff(fused, {"qkv.weight": ic.concatenate(other)}).changed
    assert one.fields["parts[k.weight].gain"] == (1.0, 2.0)


def test_what_the_plans_do_not_tell_is_called_unknown() -> None:
    left = {"w": ic.pretrained((2, 2), "a.safetensors")}
    right = {"w": ic.pretrained((2, 2), "b.safetensors")}
    (one,) = ic.diff(left, right).changed
    assert (one.values, one.fields["checkpoint"]) == ("unknown", ("a.safetensors", "b.safetensors"))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        # The same bytes, which are other numbers.
        (ic.literal((1,), [1.0]), ic.literal((1,), [0x3F800000], dtype="I32")),
        (ic.literal((1,), [1.0], dtype="BF16"), ic.literal((1,), [1.875], dtype="F16")),
        # Equal numbers, which make other bits.
        (
            ic.apply({"x": ic.normal((9,))}, "clamp", 0.0),
            ic.apply({"x": ic.normal((9,))}, "clamp", -0.0),
        ),
    ],
)
def test_values_that_only_look_alike_are_not_called_the_same(
    left: ic.Tensor, right: ic.Tensor
) -> None:
    old, new = (ic.fetch({"w": tensor}, target="local")["w"] for tensor in (left, right))
    assert old.dtype != new.dtype or old.tobytes() != new.tobytes()
    found = ic.diff({"w": left}, {"w": right})
    assert [one.values for one in found.changed] == ["unknown"]
    assert not found.same_values


def test_another_order_is_another_file_with_the_same_values() -> None:
    found = (
        ic.diff(BASE, BASE.select(BASE)),
        ic.diff(BASE, ic.Plan(dict(reversed(BASE.tensors.items())), 7)),
    )
    assert found[0].same
    assert found[1].reordered
    assert found[1].same_values
    assert not found[1].same


def test_the_command_tells_by_its_status(tmp_path: Path, capsys: Capture) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.json"
    ic.dump_plan(BASE, old)
    ic.dump_plan(BASE, new)
    assert main(["diff", str(old), str(new)]) == 0
    assert "the plans are the same" in capsys.readouterr().out
    ic.dump_plan(changed("fc.bias", ic.ones((32,))), new)
    with pytest.raises(SystemExit) as status:
        main(["diff", str(old), str(new), "--json"])
    assert status.value.code == 1
    told = capsys.readouterr()
    form = json.loads(told.out)
    assert form == ic.diff(old, new).to_dict()
    assert (form["same"], form["changed"][0]["name"]) == (False, "fc.bias")
    assert told.err == ""
    assert main(["diff", str(old), str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: No such file" in capsys.readouterr().err
    new.write_text("{")
    assert main(["diff", str(old), str(new)]) == 2
    new.write_bytes(b"\xff\xfe\x00")
    assert main(["diff", str(old), str(new)]) == 2


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(_diff).failed == 0
