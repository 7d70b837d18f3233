"""The examples with stock images, Kubeflow's own initializer and huggingface_hub's command, which
read the Hub endpoint."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from initserver.config.flags import add_flags, settings

from tests.deploy.manifests import DEPLOY, STOCK, containers, of_kind, pods, server, variables
from tests.server.certificates import Authority
from tests.server.processes import running

TRAIN_JOB, JOB_SET = STOCK
MODEL = "acme/small"
TOKEN = "secret-of-the-trainer"
PROGRAMS = DEPLOY / "examples/programs"

# The call that pkg.initializers.model of Kubeflow Trainer makes, with its patterns.
_INITIALIZE = """
import os, sys, urllib.parse
import huggingface_hub
uri = urllib.parse.urlparse(os.environ["STORAGE_URI"])
huggingface_hub.snapshot_download(
    repo_id=uri.netloc + uri.path,
    local_dir=sys.argv[1],
    allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.gguf"],
    ignore_patterns=["*.msgpack", "*.h5", "*.bin", "*.pt", "*.pth"],
)
"""

both = pytest.mark.parametrize("example", STOCK)


def replicated_jobs(example: str) -> list[dict[str, Any]]:
    """The jobs of the JobSet, or of the runtime, whose template has the fields of a JobSet."""
    kind = "JobSet" if example == JOB_SET else "TrainingRuntime"
    (one,) = of_kind(example, kind)
    spec = one["spec"] if example == JOB_SET else one["spec"]["template"]["spec"]
    jobs: list[dict[str, Any]] = spec["replicatedJobs"]
    return jobs


def downloading(example: str) -> dict[str, Any]:
    """The one container of the first step."""
    template = replicated_jobs(example)[0]["template"]
    (container,) = containers(template["spec"]["template"]["spec"])
    return container


def environment(example: str) -> dict[str, str]:
    return {one["name"]: one.get("value", TOKEN) for one in downloading(example)["env"]}


@both
def test_the_server_has_the_endpoint_and_the_model(example: str) -> None:
    pod, container = server(example)
    given = variables(container)
    assert given["INITSERVE_MODELS"] == "/models"
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert given["INITSERVE_HUB_LISTEN"].rpartition(":")[2] == str(ports["hub"])
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    understood = settings(parser.parse_args([]), given).server
    assert (understood.hub_listen, understood.models) == ("0.0.0.0:8443", "/models")
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "model")
    assert mount["mountPath"] == f"/models/{MODEL}"
    (volume,) = (one for one in pod["volumes"] if one["name"] == "model")
    assert volume["configMap"]["items"] == [{"key": "plan.yaml", "path": "plan.yaml"}]
    # Without a token nobody reads, and the tokens are those of the overlay.
    assert given["INITSERVE_TOKEN_FILE"]


@both
def test_the_first_step_calls_a_service_that_is_there_and_may(example: str) -> None:
    (service,) = (one for one in of_kind(example, "Service") if one["metadata"]["name"] == "init")
    ports = {one["name"]: one["port"] for one in service["spec"]["ports"]}
    assert set(ports) == {"grpc", "hub"}
    (certificate,) = (
        one for one in of_kind(example, "Certificate") if one["metadata"]["name"] == "initserver"
    )
    address = environment(example)["HF_ENDPOINT"].removeprefix("https://")
    host, _, port = address.partition(":")
    assert host in certificate["spec"]["dnsNames"]
    assert int(port) == ports["hub"]
    (policy,) = of_kind(example, "NetworkPolicy")
    (rule, _) = policy["spec"]["ingress"]
    assert {"port": "hub"} in rule["ports"]
    first = replicated_jobs(example)[0]
    labels = first["template"]["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= rule["from"][0]["podSelector"]["matchLabels"].items()


@both
def test_the_trainers_start_when_the_volume_is_complete(example: str) -> None:
    first, second = replicated_jobs(example)
    assert second["dependsOn"] == [{"name": first["name"], "status": "Complete"}]
    kind = "JobSet" if example == JOB_SET else "TrainingRuntime"
    (one,) = of_kind(example, kind)
    spec = one["spec"] if example == JOB_SET else one["spec"]["template"]["spec"]
    (policy,) = spec["volumeClaimPolicies"]
    (claim,) = policy["templates"]
    for job in (first, second):
        (container,) = containers(job["template"]["spec"]["template"]["spec"])
        assert claim["metadata"]["name"] in [one["name"] for one in container["volumeMounts"]]


def test_the_initializer_of_kubeflow_reads_what_its_trainer_checks(tmp_path: Path) -> None:
    """With the environment of the container, against a server with TLS and tokens."""
    (job,) = of_kind(TRAIN_JOB, "TrainJob")
    uri = job["spec"]["initializer"]["model"]["storageUri"]
    assert uri == f"hf://{MODEL}"
    out = tmp_path / "workspace" / "model"
    with served(tmp_path, TRAIN_JOB) as given:
        run([sys.executable, "-c", _INITIALIZE, str(out)], given | {"STORAGE_URI": uri})
    check(out, TRAIN_JOB, "/workspace/model/model.safetensors")


def test_the_command_of_the_jobset_reads_what_its_workers_check(tmp_path: Path) -> None:
    program, *arguments, folder = downloading(JOB_SET)["command"]
    assert (program, folder) == ("hf", "/model/small")
    out = tmp_path / "small"
    with served(tmp_path, JOB_SET) as given:
        command = [str(Path(sys.executable).with_name("hf")), *arguments, str(out)]
        run(command, given)
        # As a pod that is started again does.
        run(command, given)
    check(out, JOB_SET, "/model/small/model.safetensors")


@contextmanager
def served(place: Path, example: str) -> Iterator[dict[str, str]]:
    """A server with the model; the environment of the first step, with the addresses here."""
    authority = Authority()
    cert, key = authority.sign("server").write(place, "server")
    (place / "ca.crt").write_bytes(authority.pem)
    (place / "tokens").write_text(f"trainer:{TOKEN}\n")
    (place / "tokens").chmod(0o600)
    folder = place / "models" / MODEL
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_bytes((PROGRAMS / "plan.yaml").read_bytes())
    flags = ["--tls-cert", cert, "--tls-key", key, "--token-file", str(place / "tokens")]
    flags += ["--hub-listen", "127.0.0.1:0", "--models", str(place / "models")]
    with running(*flags) as process:
        port = process.line(r"Hub endpoint at https://[^\s,:]+:(\d+)")[1]
        yield environment(example) | {
            "HF_ENDPOINT": f"https://localhost:{port}",
            "SSL_CERT_FILE": str(place / "ca.crt"),
            "HF_HOME": str(place / "hf"),
        }


def check(out: Path, example: str, path: str) -> None:
    """The file is that of the plan, and the trainer of the example reads it at this path."""
    plan = ic.load_plan(PROGRAMS / "plan.yaml")
    here = ic.fetch_file(plan, out.parent / "here", shard_size="5GB", target="local")
    assert (out / "model.safetensors").read_bytes() == (here / "model.safetensors").read_bytes()
    last = replicated_jobs(example)[-1]["template"]["spec"]["template"]["spec"]
    (container,) = containers(last)
    assert last in list(pods(example))
    assert container["command"][1:] == ["/programs/check.py", path]
    said = run([sys.executable, str(PROGRAMS / "check.py"), str(out / "model.safetensors")], {})
    assert "4 tensors, SHA-256" in said


def run(command: list[str], given: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=os.environ | given, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
