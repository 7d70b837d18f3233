"""Loaders of the Hugging Face layout read the written folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
import transformers
from torch.distributed.checkpoint import HuggingFaceStorageReader, load

RULES = [
    ict.rule("*bias", ic.zeros),
    ict.rule("*norm.weight", ic.ones),
    ict.rule("*ln_*.weight", ic.ones),
    ict.rule("*", ic.normal, std=0.02),
]


def llama(*, tied: bool) -> Any:
    return transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )


def gpt2(*, tied: bool) -> Any:
    return transformers.GPT2Config(
        vocab_size=256,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=tied,
    )


def plan_of(config: Any) -> ic.Plan:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return ict.plan(model, RULES, seed=7)


@pytest.mark.parametrize(
    ("make", "tied", "shard_size"),
    [
        (llama, True, "20KB"),
        (llama, False, "5GB"),
        (gpt2, True, "20KB"),
        (gpt2, False, "20KB"),
    ],
)
# Tied weights have two names in a plan of the whole model, and rules that decide neither.
@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
def test_transformers_finds_no_key_missing_or_unexpected(
    make: Any, tied: bool, shard_size: str, tmp_path: Path
) -> None:
    config = make(tied=tied)
    plan = plan_of(config)
    config.save_pretrained(tmp_path)
    folder = ic.fetch_file(plan, tmp_path, shard_size=shard_size)
    assert (folder / "model.safetensors").exists() == (shard_size == "5GB")
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(found.values()), found
    state = model.state_dict()
    expected = ic.fetch(plan, target="local")
    assert set(state) == set(expected)
    for name, array in expected.items():
        assert state[name].numpy().tobytes() == array.tobytes(), name


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
# torch's own words about a load without a process group.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_checkpoints_of_torch_distributed_read_it(tmp_path: Path) -> None:
    plan = plan_of(llama(tied=False))
    folder = ic.fetch_file(plan, tmp_path / "model", shard_size="20KB")
    state = {name: torch.empty(tensor.shape) for name, tensor in plan.tensors.items()}
    load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    for name, array in ic.fetch(plan, target="local").items():
        assert state[name].numpy().tobytes() == array.tobytes(), name
