"""PEFT: recordings have the laws of each kind of adapter, and refuse by name what no plan has."""

from __future__ import annotations

import math
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch

# transformers and PEFT warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

TARGETS = ["q_proj", "v_proj"]


def base() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 32, "hidden_size": 64, "intermediate_size": 32}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads))


def adapted(method: str = "LoraConfig", **given: Any) -> Any:
    """A model with adapters of one kind."""
    import peft

    return peft.get_peft_model(
        base(), getattr(peft, method)(**{"target_modules": TARGETS, **given})
    )


def laws(plan: ic.Plan) -> dict[str, Any]:
    """Scheme and size of the draws, by the last part of the names."""
    found: dict[str, Any] = {}
    for name, tensor in plan.tensors.items():
        short = name.partition(".default")[0].rpartition(".")[2]
        size = {"uniform": tensor.b, "normal": tensor.std}.get(tensor.scheme)
        law = (tensor.scheme, None if size is None else round(size, 4))
        assert found.setdefault(short, law) == law
    return found


@pytest.mark.parametrize(
    ("method", "given", "only", "expected"),
    [
        (
            "LoraConfig",
            {"r": 4},
            "*.lora_*",
            {"lora_A": ("uniform", 0.125), "lora_B": ("zeros", None)},
        ),
        (
            "LoraConfig",
            {"r": 4, "init_lora_weights": "gaussian"},
            "*.lora_*",
            {"lora_A": ("normal", 0.25), "lora_B": ("zeros", None)},
        ),
        (
            "LoraConfig",
            {"r": 4, "target_modules": ["embed_tokens"]},
            "*.lora_*",
            {"lora_embedding_A": ("zeros", None), "lora_embedding_B": ("normal", 1.0)},
        ),
        (
            "LoHaConfig",
            {"r": 4},
            "*.hada_*",
            {
                "hada_w1_a": ("uniform", 0.5),
                "hada_w1_b": ("uniform", 0.125),
                "hada_w2_a": ("uniform", 0.5),
                "hada_w2_b": ("zeros", None),
            },
        ),
        (
            "LoKrConfig",
            {"r": 4},
            "*.lokr_*",
            {"lokr_w1": ("zeros", None), "lokr_w2": ("uniform", round(math.sqrt(1 / 8), 4))},
        ),
        ("IA3Config", {"feedforward_modules": []}, "*.ia3_*", {"ia3_l": ("ones", None)}),
        (
            "AdaLoraConfig",
            {"init_r": 4, "total_step": 10},
            "*.lora_*",
            {
                "lora_A": ("normal", 0.02),
                "lora_B": ("normal", 0.02),
                "lora_E": ("zeros", None),
            },
        ),
    ],
)
def test_adapters_start_as_peft_draws_them(
    method: str, given: dict[str, Any], only: str, expected: dict[str, Any]
) -> None:
    plan = ict.record(adapted, method, **given).plan(seed=7, only=only)
    assert laws(plan) == expected
    # PEFT's own values are within the same bounds, and zero where the plan is.
    for name, parameter in adapted(method, **given).named_parameters():
        if name in plan:
            tensor = plan.tensors[name]
            assert tensor.scheme != "uniform" or parameter.abs().max() <= tensor.b
            assert tensor.scheme != "zeros" or not parameter.any()
            assert tensor.scheme != "normal" or 0.5 < parameter.std() / tensor.std < 1.5


@pytest.mark.parametrize(
    ("method", "given", "reason"),
    [
        ("LoraConfig", {"init_lora_weights": "pissa"}, r"lora_A\.default.*pissa_init"),
        ("LoraConfig", {"init_lora_weights": "orthogonal"}, r"lora_A\.default.*orthogonal_init"),
        ("LoraConfig", {"use_dora": True}, r"lora_magnitude_vector\.default.*get_weight_norm"),
        ("VeraConfig", {}, r"vera_A\.default.*a torch\.Generator of the model's own draws it"),
    ],
)
def test_what_no_plan_has_is_refused_by_name(
    method: str, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ic.PlanError, match=reason):
        ict.record(adapted, method, **given).plan(
            only=["*.lora_*" if "Lora" in method else "*.vera_*"]
        )


def test_doras_magnitudes_and_copies_of_base_layers_are_kept() -> None:
    given = {"r": 4, "use_dora": True, "modules_to_save": ["lm_head"]}
    plan = ict.record(adapted, **given).plan(seed=7, only=["*.lora_A.*", "*.lora_B.*"])
    assert laws(plan) == {"lora_A": ("uniform", 0.125), "lora_B": ("zeros", None)}
    model = adapted(**given)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = ict.init_(model, plan, "local")
    assert set(report.filled) == set(plan.tensors)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in plan or "lora_B" in name), name
    assert ict.verify(model, plan, "local").agreed == tuple(plan.tensors)


def test_torchs_defaults_for_adapters_are_an_error_that_names_the_recording() -> None:
    with pytest.raises(ic.PlanError, match=r"lora_A.*: ict\.record\(make\)\.plan\(seed=7\), where"):
        ict.plan(adapted(), seed=7, only="*.lora_*")
    with pytest.warns(ic.PlanWarning, match=r"lora_A.*lora_B.*zeros; ict\.record draws them as"):
        ict.plan(adapted(), [ict.rule("*", ic.normal, std=0.02)], seed=7, only="*.lora_*")
