"""One rank of `from_pretrained(..., tp_plan="auto")`: writes its shards. No code of initserve.

python hub_ranks.py MODEL FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor, Shard
from transformers import AutoModelForCausalLM

name, folder = sys.argv[1], Path(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(name, tp_plan="auto", dtype=torch.bfloat16)
shards, dimensions = {}, {}
for key, value in model.state_dict().items():
    dimension = None
    if isinstance(value, DTensor):
        (placement,) = value.placements
        dimension = placement.dim if isinstance(placement, Shard) else None
        value = value.to_local()
    shards[key], dimensions[key] = value.contiguous(), dimension
rank = os.environ["RANK"]
save_file(shards, folder / f"rank{rank}.safetensors")
(folder / f"rank{rank}.json").write_text(json.dumps(dimensions))
dist.barrier()
dist.destroy_process_group()
