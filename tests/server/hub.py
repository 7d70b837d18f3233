"""Model folders and servers for the tests of the Hub endpoint, and plain requests to them."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initcore import Plan, Tensor, dump_plan, normal, ones
from initserver import Limits, Server, ServerConfig

HIDDEN, INNER, VOCABULARY, LAYERS = 32, 64, 128, 2

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def llama(seed: int = 7) -> Plan:
    """A small Llama in bfloat16, with the names of transformers."""

    def linear(*shape: int) -> Tensor:
        return normal(shape, std=0.02, dtype="BF16")

    def norm() -> Tensor:
        return ones((HIDDEN,), dtype="BF16")

    tensors = {"model.embed_tokens.weight": linear(VOCABULARY, HIDDEN)}
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        for name, rows in (("q", HIDDEN), ("k", HIDDEN // 2), ("v", HIDDEN // 2), ("o", HIDDEN)):
            tensors[f"{layer}.self_attn.{name}_proj.weight"] = linear(rows, HIDDEN)
        tensors[f"{layer}.mlp.gate_proj.weight"] = linear(INNER, HIDDEN)
        tensors[f"{layer}.mlp.up_proj.weight"] = linear(INNER, HIDDEN)
        tensors[f"{layer}.mlp.down_proj.weight"] = linear(HIDDEN, INNER)
        tensors[f"{layer}.input_layernorm.weight"] = norm()
        tensors[f"{layer}.post_attention_layernorm.weight"] = norm()
    tensors["model.norm.weight"] = norm()
    tensors["lm_head.weight"] = linear(VOCABULARY, HIDDEN)
    return Plan(tensors, seed=seed)


def put(place: Path, plan: Plan, settings: str = "", **files: str) -> Path:
    """Makes a model folder; files are named with `_` for the dot."""
    place.mkdir(parents=True, exist_ok=True)
    dump_plan(plan, place / "plan.yaml")
    (place / "config.json").write_text(json.dumps(CONFIG))
    if settings:
        (place / "initserve.yaml").write_text(settings)
    for name, text in files.items():
        (place / name.replace("_", ".")).write_text(text)
    return place


@contextmanager
def serving(models: Path, **config: Any) -> Iterator[Server]:
    """A server with a Hub endpoint on loopback."""
    limits = config.pop("limits", Limits())
    given = {"backend": "numpy", "grace": 5} | config
    with Server(
        ServerConfig(
            listen="127.0.0.1:0",
            hub_listen="127.0.0.1:0",
            models=str(models),
            limits=limits,
            **given,
        )
    ) as server:
        yield server


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers (any case of names), body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.headers["X-Error-Code"]


def ask(
    server: Server,
    path: str,
    method: str = "GET",
    *,
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    **headers: str,
) -> Reply:
    """One request; headers are named with `_` for the dash."""
    host, _, port = server.hub_address.rpartition(":")
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
    else:
        connection = http.client.HTTPSConnection(host, int(port), timeout=60, context=tls)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()
