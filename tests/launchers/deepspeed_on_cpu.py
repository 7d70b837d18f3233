"""DeepSpeed on CPUs, with gloo in place of the reductions that it would compile for a minute.

    python -m tests.launchers.deepspeed_on_cpu PROGRAM

runs a program so. Importing this module is enough.
"""

from __future__ import annotations

import os
import runpy
import sys

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("LOCAL_RANK", os.environ.get("RANK", "0"))

import deepspeed

# Through shared memory; gloo does them too.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
# It takes float16 only on CPUs that are fast at it; torch computes it on all of them.
deepspeed.accelerator.get_accelerator().is_fp16_supported = lambda: True

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
