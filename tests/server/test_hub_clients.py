"""Stock clients of the Hugging Face Hub read the endpoint, with the bits of `ic.fetch`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import initclient as ic
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from initcore import Plan, normal
from initserver import Server
from safetensors import safe_open

from tests.server.certificates import Authority
from tests.server.hub import llama, put, serving
from tests.server.processes import running

LARGE, ONE, SHARDED = "acme/large", "acme/llama", "acme/llama-sharded"
LARGE_PLAN = Plan({"w": normal((3000, 1024))}, seed=5)

_LOAD = """
import hashlib, json, sys, torch
from transformers import AutoModelForCausalLM
found = {}
for given in sys.argv[1:]:
    name, _, revision = given.partition("@")
    model = AutoModelForCausalLM.from_pretrained(name, revision=revision or "main")
    assert model.dtype == torch.bfloat16
    found[given] = {
        key: hashlib.sha256(value.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for key, value in model.state_dict().items()
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    put(models / "acme" / "llama", llama(), "seeds: open\n", tokenizer_json="{}" * 1000)
    put(models / "acme" / "llama-sharded", llama(), "shard_size: 10KB\n")
    put(models / "acme" / "large", LARGE_PLAN)
    with serving(models) as server:
        yield server


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)


def endpoint(server: Server) -> str:
    return f"http://{server.hub_address}"


def hashes(plan: Plan) -> dict[str, str]:
    return {name: sha256(value.tobytes()).hexdigest() for name, value in ic.fetch(plan).items()}


def in_folder(folder: Path) -> dict[str, str]:
    """The hash of every tensor in the files of a folder."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                data = file.get_tensor(name).contiguous().view(-1)
                found[name] = sha256(data.view(dtype=torch.uint8).numpy().tobytes()).hexdigest()
    return found


def test_from_pretrained_loads_one_file_shards_and_another_seed(
    server: Server, tmp_path: Path
) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": endpoint(server),
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    run = subprocess.run(
        [sys.executable, "-c", _LOAD, ONE, SHARDED, f"{ONE}@seed-11"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    plain = hashes(llama())
    assert json.loads(run.stdout.splitlines()[-1]) == {
        ONE: plain,
        SHARDED: plain,
        f"{ONE}@seed-11": hashes(llama(seed=11)),
    }


def test_a_snapshot_has_every_file_and_the_bits_of_fetch(server: Server, tmp_path: Path) -> None:
    folder = Path(snapshot_download(ONE, endpoint=endpoint(server), cache_dir=tmp_path))
    names = {"config.json", "initserve.yaml", "model.safetensors", "plan.yaml", "tokenizer.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert in_folder(folder) == hashes(llama())
    assert ic.load_plan(folder / "plan.yaml") == llama()
    assert ic.verify(folder / "model.safetensors", folder / "plan.yaml").ok
    # The folder is named by the commit.
    assert folder.name == HfApi(endpoint(server)).model_info(ONE).sha
    sharded = Path(snapshot_download(SHARDED, endpoint=endpoint(server), cache_dir=tmp_path))
    assert len(list(sharded.glob("*.safetensors"))) > 3
    assert in_folder(sharded) == hashes(llama())


def test_metadata_is_read_by_ranges(server: Server) -> None:
    api = HfApi(endpoint(server))
    for name in (ONE, SHARDED):
        found = api.get_safetensors_metadata(name)
        tensors = {t for file in found.files_metadata.values() for t in file.tensors}
        assert tensors == set(llama().tensors)
        assert found.sharded == (name == SHARDED)


def test_the_api_knows_models_files_and_branches(server: Server) -> None:
    api = HfApi(endpoint(server))
    assert [model.id for model in api.list_models()] == [LARGE, ONE, SHARDED]
    assert [model.id for model in api.list_models(author="acme", search="shard")] == [SHARDED]
    assert api.list_repo_files(LARGE) == ["config.json", "model.safetensors", "plan.yaml"]
    (info,) = api.get_paths_info(LARGE, ["model.safetensors", "none.json"])
    assert info.size > 3000 * 1024 * 4
    assert api.file_exists(LARGE, "config.json")
    assert not api.file_exists(LARGE, "generation_config.json")
    (branch,) = api.list_repo_refs(LARGE).branches
    assert branch.target_commit == api.model_info(LARGE).sha
    assert api.revision_exists(ONE, "seed-3")
    assert not api.revision_exists(LARGE, "seed-3")


def test_errors_are_those_of_the_hub(server: Server, tmp_path: Path) -> None:
    at = {"endpoint": endpoint(server), "cache_dir": tmp_path}
    with pytest.raises(RepositoryNotFoundError, match="no model"):
        hf_hub_download("acme/none", "config.json", **at)
    with pytest.raises(RevisionNotFoundError, match="no revision"):
        hf_hub_download(ONE, "config.json", revision="v2", **at)
    with pytest.raises(EntryNotFoundError, match="no file"):
        hf_hub_download(ONE, "none.json", **at)


def test_the_file_system_reads_ranges(server: Server) -> None:
    files = HfFileSystem(endpoint=endpoint(server))
    assert f"{LARGE}/model.safetensors" in files.ls(LARGE, detail=False)
    (weights,) = ic.fetch(LARGE_PLAN).values()
    with files.open(f"{LARGE}/model.safetensors", block_size=1 << 16) as file:
        file.seek(-4096, 2)
        assert file.read() == weights.tobytes()[-4096:]


def test_a_download_that_is_cut_is_resumed(server: Server, tmp_path: Path) -> None:
    """A proxy cuts the first connection of the weights in the middle."""
    with cutting(server.hub_address, after=5 << 20) as (address, cuts):
        path = hf_hub_download(
            LARGE, "model.safetensors", endpoint=f"http://{address}", cache_dir=tmp_path
        )
        assert cuts == [True]
    with safe_open(path, framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("w"), ic.fetch(LARGE_PLAN)["w"])


def test_a_download_goes_on_at_another_replica_when_one_is_killed(tmp_path: Path) -> None:
    put(tmp_path / "models" / "acme" / "large", LARGE_PLAN)
    flags = ("--models", str(tmp_path / "models"), "--hub-listen", "127.0.0.1:0")
    with running(*flags) as first, running(*flags) as second:
        targets = [one.line(r"Hub endpoint at http://([^\s,]+)")[1] for one in (first, second)]
        with cutting(*targets, after=5 << 20, on_cut=first.process.kill) as (address, cuts):
            path = hf_hub_download(
                LARGE, "model.safetensors", endpoint=f"http://{address}", cache_dir=tmp_path
            )
            assert cuts == [True]
        assert first.process.wait(30) < 0
    with safe_open(path, framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("w"), ic.fetch(LARGE_PLAN)["w"])


def test_a_private_authority_and_a_token_are_given_by_variables(tmp_path: Path) -> None:
    put(tmp_path / "models" / "acme" / "llama", llama())
    authority = Authority()
    cert, key = authority.sign("localhost").write(tmp_path, "server")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tokens = tmp_path / "tokens"
    tokens.write_text("trainer:secret-1\n")
    tokens.chmod(0o600)
    code = f"from huggingface_hub import snapshot_download as get; print(get({ONE!r}))"
    config = {"tls_cert": cert, "tls_key": key, "token_file": str(tokens)}
    with serving(tmp_path / "models", **config) as server:
        environment = os.environ | {
            "HF_ENDPOINT": f"https://{server.hub_address}",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "SSL_CERT_FILE": str(tmp_path / "ca.crt"),
        }
        runs = [
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                # A cache of its own: the client would answer from it after a refusal.
                env=environment | {"HF_TOKEN": token, "HF_HOME": str(tmp_path / token)},
                timeout=120,
            )
            for token in ("secret-1", "wrong")
        ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert in_folder(Path(runs[0].stdout.strip())) == hashes(llama())
    assert runs[1].returncode != 0
    assert "401" in runs[1].stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
def test_curl_resumes_from_what_it_has(server: Server, tmp_path: Path) -> None:
    url = f"{endpoint(server)}/{LARGE}/resolve/main/model.safetensors"
    whole, part = tmp_path / "whole", tmp_path / "part"
    for file in (whole, part):
        subprocess.run(["curl", "-sSf", "-C", "-", "-o", file, url], check=True, timeout=60)
        if file == whole:
            part.write_bytes(whole.read_bytes()[: 3 << 20])
    assert part.read_bytes() == whole.read_bytes()


class cutting:  # noqa: N801 - reads as a verb
    """A proxy that ends one connection after so many bytes of answers.

    Connections go to the first target before that, and to the last one afterwards.
    """

    def __init__(
        self, *targets: str, after: int, on_cut: Callable[[], None] = lambda: None
    ) -> None:
        self._targets = targets
        self._on_cut = on_cut
        self._left: int | None = after
        self._cuts: list[bool] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> tuple[str, list[bool]]:
        self._start(self._accept)
        return f"127.0.0.1:{self._listener.getsockname()[1]}", self._cuts

    def __exit__(self, *error: object) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._sockets:
            one.close()

    def _start(self, *work: Any) -> None:
        self._threads.append(threading.Thread(target=work[0], args=work[1:], daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            host, _, port = self._targets[-1 if self._cuts else 0].rpartition(":")
            server = socket.create_connection((host, int(port)))
            self._sockets += [client, server]
            self._start(self._pass, client, server, False)
            self._start(self._pass, server, client, True)

    def _is_over(self, count: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= count
            if self._left >= 0:
                return False
            self._left = None
            self._cuts.append(True)
        self._on_cut()
        return True

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
                if counts and self._is_over(len(data)):
                    break
        for one in (sink, source):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
