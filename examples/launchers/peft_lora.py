"""PEFT: adapters start as PEFT draws them, the base as it is; any rank gets the same adapters.

Run it where initserve[torch], peft and transformers are installed:

    torchrun --nproc-per-node 2 examples/launchers/peft_lora.py
"""

import initclient.torch as ict
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2)  # fmt: skip


def adapted(base):
    return get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))


dist.init_process_group("gloo")
torch.manual_seed(1)
model = adapted(LlamaForCausalLM(config))  # in a real run from_pretrained
recording = ict.record(lambda: adapted(LlamaForCausalLM(config)))  # yours: runs on meta
plan = recording.plan(seed=7, only="*.lora_*")  # yours: the adapters alone
for layer in model.get_base_model().model.layers:
    fully_shard(layer)
fully_shard(model)
ict.init_(model, plan)  # yours: the base is kept
ict.verify(model, plan)
optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
for _ in range(2):
    loss = model(input_ids=torch.arange(32)[None], labels=torch.arange(32)[None]).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"rank {dist.get_rank()} of {dist.get_world_size()}: loss {loss.item():.6g}", flush=True)
