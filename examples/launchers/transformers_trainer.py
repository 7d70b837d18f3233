"""Hugging Face Trainer with tp_plan="auto": no rank ever makes or reads a whole weight.

Run it where initserve[torch], transformers and accelerate are installed:

    torchrun --nproc-per-node 2 examples/launchers/transformers_trainer.py
"""

import os

import initclient.torch as ict
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.distributed import DistributedConfig

config = LlamaConfig(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
plan = ict.record(LlamaForCausalLM, config).plan(seed=7)  # yours: as transformers draws

parallel = DistributedConfig(tp_plan="auto", tp_size=int(os.environ["WORLD_SIZE"]))
parallel, _, mesh = LlamaForCausalLM.prepare_distribute_model(parallel)
with torch.device("meta"):
    model = LlamaForCausalLM(config)
model = LlamaForCausalLM.maybe_distribute_model(model, parallel, mesh)
ict.init_(model, plan, device="cpu")  # yours: before the Trainer
ict.verify(model, plan)

tokens = torch.arange(32)
data = [{"input_ids": tokens + row, "labels": tokens + row} for row in range(8)]
arguments = TrainingArguments("out", max_steps=2, per_device_train_batch_size=4, logging_steps=1,
    use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True)  # fmt: skip
trainer = Trainer(model, arguments, train_dataset=data)
trainer.train()
losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
print(
    f"rank {trainer.args.process_index} of {trainer.args.world_size}: losses {losses}", flush=True
)
