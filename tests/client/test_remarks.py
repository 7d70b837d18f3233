"""describe remarks on allowed plans that may be mistakes; fetch does not."""

from __future__ import annotations

import initclient as ic
import pytest
from initclient.cli import main

MEANT = {
    "norm.weight": ic.ones((8,)),
    "norm.bias": ic.zeros((8,)),
    "scale": ic.ones((1, 8, 1, 1)),
    "bias_table": ic.zeros((8, 8)),
    "blocks.0.attn.out_proj.weight": ic.zeros((8, 8)),
    "lora_B.weight": ic.zeros((8, 4)),
    "mask": ic.ones((8, 8), dtype="BOOL"),
    "eye": ic.eye((8, 8)),
    "patch.weight": ic.kaiming_normal((8, 3, 3, 3), mode="fan_out"),
    "grey.weight": ic.kaiming_normal((8, 1, 3, 3)),
    "linear.weight": ic.xavier_uniform((8, 1)),
    "w": ic.normal((8, 8), std=0.02),
    "cut": ic.trunc_normal((8, 8), std=0.02, a=-0.04, b=0.04),
    "sigmas": ic.trunc_normal((8, 8), std=0.02, relative=True),
    "wide": ic.trunc_normal((8, 8)),
}


def test_what_people_normally_do_has_no_remark() -> None:
    assert ic.describe(MEANT).remarks == ()


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (ic.ones((8, 8)), "all units of a layer"),
        (ic.constant((8, 8, 3, 3), 0.5), "every element is 0.5"),
        (ic.zeros((8, 8)), "weight matrix of zeros"),
        (ic.kaiming_normal((8, 1, 3, 3), mode="fan_out"), "fan out counts all 8 outputs"),
        (ic.xavier_uniform((8, 1, 3)), "fan out counts all 8 outputs"),
        (ic.glorot_normal((3, 3, 1, 8), layout="jax"), "fan out counts all 8 outputs"),
        (ic.trunc_normal((8, 8), std=0.02), "cut at 100 standard deviations"),
        (ic.concatenate({"a": ic.ones((4, 8)), "b": ic.normal((4, 8))}), "every element is 1"),
    ],
)
def test_what_may_not_be_meant_has_one(tensor: ic.Tensor, words: str, target: str) -> None:
    (remark,) = ic.describe({"fc1.weight": tensor}).remarks
    assert remark.startswith("'fc1.weight': ")
    assert words in remark
    assert ic.describe({"fc1.weight": tensor}, target=target).remarks == (remark,)


def test_the_same_remark_is_made_once() -> None:
    plan = {f"layers.{i}.weight": ic.trunc_normal((8, 8), std=0.02) for i in range(24)}
    (remark,) = ic.describe(plan).remarks
    assert remark.startswith("'layers.0.weight', 'layers.1.weight' and 22 more: ")


def test_fetch_does_not_warn_of_remarks() -> None:
    plan = {"fc1.weight": ic.ones((8, 8))}
    assert ic.describe(plan).remarks
    assert ic.describe(plan).warnings == ()
    ic.fetch(plan, target="local")  # warnings are errors here


def test_the_command_shows_remarks_and_parts(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{tmp_path}/plan.yaml"
    parts = {"q.weight": ic.normal((4, 8), std=0.02), "k.weight": ic.normal((4, 8), std=0.01)}
    ic.dump_plan(
        ic.Plan(
            {
                "qk.weight": ic.concatenate(parts),
                "emb.weight": ic.normal((8, 8), zero_rows=(0,)),
                "body.weight": ic.pretrained((2, 2), "a.safetensors", source="x", sha256="0" * 64),
                "fc1.weight": ic.ones((8, 8)),
            }
        ),
        path,
    )
    assert main(["describe", path]) == 0
    told = capsys.readouterr().out
    assert "concatenate of 2" in told
    assert "std 1, 1 zero row" in told
    assert "a.safetensors:x" in told
    assert "note: 'fc1.weight': every element is 1" in told
    assert "q.weight" not in told
    assert main(["describe", path, "--parts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  q.weight") and "std 0.02" in line for line in lines)
