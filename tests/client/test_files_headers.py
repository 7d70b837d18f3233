"""Plans from the headers of checkpoints, and rules by name."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import initclient as ic
import pytest
from initclient import _from_safetensors
from initclient._plan import constant_for
from initclient._plan import rules as _rules
from initclient.cli import main

PLAN = ic.Plan(
    {
        "h.0.attn.weight": ic.ones((8, 24), dtype="bfloat16"),
        "h.0.attn.bias": ic.ones((24,), dtype="bfloat16"),
        "h.1.attn.weight": ic.ones((8, 24), dtype="bfloat16"),
        "norm.weight": ic.zeros((8,)),
        "steps": ic.ones((), dtype="int64"),
    }
)
RULES = [
    ic.rule("*.bias", ic.zeros),
    ic.rule(re.compile(r"h\.1\..*"), ic.kaiming_normal, mode="fan_out"),
    ic.rule("h.*", ic.normal, std=0.02),
    ic.rule("*", ic.ones, parameter="weight"),
    ic.rule("steps", ic.zeros),
]


@pytest.fixture(params=["file", "folder", "index"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "file":
        return ic.fetch_file(PLAN, tmp_path / "trained.safetensors")
    folder = ic.fetch_file(PLAN, tmp_path / "trained", shard_size=400)
    return folder if request.param == "folder" else folder / "model.safetensors.index.json"


def test_names_shapes_types_and_order_are_the_checkpoints(checkpoint: Path) -> None:
    plan = ic.plan_from_safetensors(checkpoint, RULES, seed=7)
    assert plan.seed == 7
    assert [(n, t.shape, t.dtype) for n, t in plan.tensors.items()] == [
        (n, t.shape, t.dtype) for n, t in PLAN.tensors.items()
    ]
    assert [t.scheme for t in plan.tensors.values()] == [
        *("normal", "zeros", "kaiming_normal", "ones", "zeros")
    ]
    assert plan.tensors["h.1.attn.weight"].mode == "fan_out"


def test_everything_floating_may_have_another_type(checkpoint: Path) -> None:
    plan = ic.plan_from_safetensors(checkpoint, RULES, dtype="float16")
    assert [t.dtype for t in plan.tensors.values()] == ["F16", "F16", "F16", "F16", "I64"]


def test_every_tensor_that_nothing_covers_is_named(checkpoint: Path) -> None:
    with pytest.raises(ic.PlanError) as caught:
        ic.plan_from_safetensors(checkpoint, RULES[:2])
    assert [one.tensor for one in caught.value.violations] == [
        *("h.0.attn.weight", "norm.weight", "steps")
    ]
    matrix, norm, steps = [one.message for one in caught.value.violations]
    assert "such as rule('h.0.attn.weight', ic.normal, std=0.02)" in matrix
    assert "such as rule('norm.weight', ic.ones)" in norm
    assert "such as rule('steps', ic.zeros)" in steps


# Norms of libraries by the names that checkpoints have, whole, stacked, and with axes of size 1.
NORMS = (
    "model.norm.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.q_norm.weight",
    "transformer.h.0.ln_1.weight",
    "transformer.ln_f.weight",
    "encoder.layer.0.output.LayerNorm.weight",
    "layer1.0.bn2.weight",
    "blocks.norm1.scale",
)


@pytest.mark.parametrize("shape", [(8,), (1, 8, 1, 1), (12, 8)])
@pytest.mark.parametrize("name", NORMS)
def test_no_noise_is_suggested_for_a_norm(name: str, shape: tuple[int, ...]) -> None:
    assert constant_for(name.split("."), shape) == "ones"
    shift = name.rpartition(".")[0] + ".bias"
    assert constant_for(shift.split("."), shape) == "zeros"


@pytest.mark.parametrize("name", ["h.0.attn.weight", "norm1.linear.weight", "normalizer.weight"])
def test_a_matrix_is_no_norm(name: str) -> None:
    assert constant_for(name.split("."), (8, 8)) == ""


def test_recipes_that_fit_are_named_and_the_recording_of_the_code(tmp_path: Path) -> None:
    names = {
        "wte.weight": (32, 8),
        "h.0.ln_1.weight": (8,),
        "h.0.attn.c_proj.weight": (8, 8),
        "h.0.attn.c_proj.bias": (8,),
    }
    plan = ic.Plan({name: ic.ones(shape) for name, shape in names.items()})
    path = ic.fetch_file(plan, tmp_path / "trained.safetensors")
    with pytest.raises(ic.PlanError) as caught:
        ic.plan_from_safetensors(path)
    first, *rest = [one.message for one in caught.value.violations]
    assert "; or take a recipe that fits these names: 'gpt2'; or, with the model's code" in first
    assert "ict.record(Model, config).plan(seed=...)" in first
    assert not any("recipe" in message or "record" in message for message in rest)
    # The advice is good: it makes a plan without a warning.
    assert len(ic.plan_from_safetensors(path, recipe="gpt2")) == 4


def test_where_no_recipe_fits_none_is_named(checkpoint: Path) -> None:
    with pytest.raises(ic.PlanError, match=r"give a recipe \(`initclient recipes` lists them\)"):
        ic.plan_from_safetensors(checkpoint)


def test_a_rule_without_effect_is_reported(checkpoint: Path) -> None:
    with pytest.warns(ic.PlanWarning, match=r"rule\('\*\.bais', zeros\) has no effect") as seen:
        ic.plan_from_safetensors(checkpoint, [ic.rule("*.bais", ic.zeros), *RULES])
    assert seen[0].filename == __file__


def test_a_recipe_decides_what_rules_leave_to_it(tmp_path: Path) -> None:
    plan = ic.Plan(
        {
            "transformer.wte.weight": ic.ones((32, 8)),
            "transformer.h.0.attn.c_proj.weight": ic.ones((8, 8)),
            "transformer.h.0.ln_1.weight": ic.zeros((8,)),
            "transformer.h.0.ln_1.bias": ic.ones((8,)),
        }
    )
    path = ic.fetch_file(plan, tmp_path / "trained.safetensors")
    rules = [ic.rule("*.wte.weight", ic.uniform)]
    made = ic.plan_from_safetensors(path, rules, recipe="gpt2", recipe_arguments={"layers": 12})
    assert [t.scheme for t in made.tensors.values()] == ["uniform", "normal", "ones", "zeros"]
    assert made.tensors["transformer.h.0.attn.c_proj.weight"].std == pytest.approx(0.02 / 24**0.5)


def eye(n: int, m: int, dtype: object) -> ic.Tensor:
    raise AssertionError


def test_wrong_rules_are_refused_where_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="matches by 3"):
        ic.rule(3, ic.zeros)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give a builder without its shape"):
        ic.rule("*", ic.zeros((3,)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype comes from the file"):
        ic.rule("*", ic.zeros, dtype="F32")
    path = ic.fetch_file(PLAN, tmp_path / "x")
    with pytest.raises(TypeError, match=r"rule\('\*', eye\) does not fit h.0.attn.weight: .*'m'"):
        ic.plan_from_safetensors(path, [ic.rule("*", eye)])
    with pytest.raises(TypeError, match=r"rule\(.*\) does not fit h\.0.*takes no argument 'std'"):
        ic.plan_from_safetensors(path, [ic.rule("*", ic.zeros, std=1)])
    with pytest.raises(TypeError, match=r"make rules with ic\.rule"):
        ic.plan_from_safetensors(path, ["*"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no recipe"):
        ic.plan_from_safetensors(path, RULES, recipe_arguments={"layers": 2})


def test_the_examples_hold() -> None:
    for module in (_from_safetensors, _rules):
        assert doctest.testmod(module).failed == 0


def raw(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(**changes: object) -> bytes:
    form = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return json.dumps({"w": form}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"short",
        raw(b"{}", 2**63),
        raw(b"{}", 2**40),
        raw(b"[" * 100_000),
        raw(b"\xff\xfe"),
        raw(b"[]"),
        raw(b'{"w": 3}'),
        raw(entry(), data=b"1234"),
        raw(entry(shape=[2**62, 4]), data=bytes(8)),
        raw(entry(shape=[-2]), data=bytes(8)),
        raw(entry(shape="[2]"), data=bytes(8)),
        raw(entry(data_offsets=[0, 2**60]), data=bytes(8)),
        raw(entry(dtype="F99"), data=bytes(8)),
    ],
)
def test_what_is_no_safetensors_file_is_refused_by_name(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"hostile\.safetensors"):
        ic.plan_from_safetensors(path, [ic.rule("*", ic.zeros)])


def test_an_element_type_that_plans_do_not_have_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(entry(dtype="F8_E8M0", data_offsets=[0, 2]), data=bytes(2)))
    with pytest.raises(ic.PlanError, match=r"'w': dtype: .*F8_E8M0"):
        ic.plan_from_safetensors(path, [ic.rule("*", ic.zeros)])


def test_the_command_makes_a_plan_that_fetches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "summary: Mine.\nsource: [here]\nrules:\n"
        "  - {name: '*.bias', scheme: zeros}\n"
        "  - {name: '*', scheme: constant, val: 3}\n"
    )
    trained = ic.fetch_file(PLAN, tmp_path / "trained.safetensors")
    out = tmp_path / "plan.json"
    arguments = ["plan", str(trained), "--recipe", str(own), "--seed", "9"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}: 5 tensors\n"
    plan = ic.load_plan(out)
    assert plan.seed == 9
    assert ic.fetch(plan)["norm.weight"].tolist() == [3.0] * 8
    assert main(arguments) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert ic.load_plan(tmp_path / "printed.yaml") == plan
    assert main(["plan", str(own), "--recipe", str(own)]) == 2
    assert "own.yaml" in capsys.readouterr().err
