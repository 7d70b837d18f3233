"""Megatron-Core: one plan for any tensor, pipeline and expert parallel size.

The first command writes the plan, once; the second one fills tensor parallel 2 by pipeline 2:

    python examples/launchers/megatron.py plan.yaml
    torchrun --nproc-per-node 4 examples/launchers/megatron.py plan.yaml 2
"""

import os
import sys

import initclient as ic
import initclient.torch as ict
import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer.transformer_config import TransformerConfig

is_alone = "RANK" not in os.environ
if is_alone:
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
torch.distributed.init_process_group()
tp = 1 if is_alone else int(sys.argv[2])
pp = torch.distributed.get_world_size() // tp
parallel_state.initialize_model_parallel(tp, pp)
config = TransformerConfig(num_layers=4, hidden_size=64, num_attention_heads=4,
    tensor_model_parallel_size=tp, pipeline_model_parallel_size=pp, pipeline_dtype=torch.float32,
    use_cpu_initialization=True, gradient_accumulation_fusion=False)  # fmt: skip
ends = {"pre_process": parallel_state.is_pipeline_first_stage()}
ends |= {"post_process": parallel_state.is_pipeline_last_stage()}
model = GPTModel(config, get_gpt_layer_local_spec(), -(-1001 // tp) * tp, 32, **ends)

if is_alone:
    rules = [ict.rule("*norm*.weight", ic.ones), ict.rule("*.bias", ic.zeros)]  # yours
    rules += [ict.rule("*", ic.normal, std=0.02)]  # yours
    ic.dump_plan(ict.plan(model, rules, seed=7), sys.argv[1])  # yours
else:
    ict.init_(model, ic.load_plan(sys.argv[1]), partial=pp > 1)  # yours
    print(f"verified {ict.verify(model, ic.load_plan(sys.argv[1])).plan_digest}")  # yours
