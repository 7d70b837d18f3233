"""The examples for trainers: their commands are real, and do what the README says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import initclient as ic
import pytest
from initclient.cli import _parser as client_parser
from initserver.cli import _parser as server_parser

from tests.deploy.manifests import DEPLOY, EXAMPLES, ROOT, containers, of_kind, pods, server
from tests.server.certificates import Authority
from tests.server.processes import Running, running

PROGRAMS = DEPLOY / "examples/programs"


def containers_of(example: str) -> list[dict[str, Any]]:
    return [one for pod in pods(f"examples/{example}") for one in containers(pod)]


def command(container: dict[str, Any]) -> list[str]:
    """What runs: the image's entry point is the server."""
    return [*container.get("command", ["initserver"]), *container.get("args", [])]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_command_line_parses(example: str) -> None:
    for container in containers_of(example):
        parse(*command(container))


def parse(program: str, *arguments: str) -> None:
    if program == "initclient":
        client_parser().parse_args(arguments)
    elif program == "initserver":
        server_parser().parse_args(arguments)
    elif program == "torchrun":
        from torch.distributed.run import get_args_parser

        options = get_args_parser().parse_args(arguments)
        assert Path(options.training_script).name in os.listdir(PROGRAMS)
    else:
        assert program == "python"
        assert Path(arguments[0]).name in os.listdir(PROGRAMS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_target_is_a_service_that_is_there(example: str) -> None:
    """With the port that it has, in the namespace of the job."""
    services = {one["metadata"]["name"]: one for one in of_kind("overlays/cpu", "Service")}
    found = 0
    for pod in pods(f"examples/{example}"):
        for target in targets(pod):
            found += 1
            host, _, port = target.removeprefix("dns:///").partition(":")
            name = host.removesuffix(".ml.svc")
            if name in services:
                assert host in names_of_the_certificate()
                assert int(port) == services[name]["spec"]["ports"][0]["port"]
            else:
                (job_set,) = of_kind(f"examples/{example}", "JobSet")
                job, subdomain = (
                    job_set["metadata"]["name"],
                    job_set["spec"]["network"]["subdomain"],
                )
                first = job_set["spec"]["replicatedJobs"][0]["name"]
                assert name == f"{job}-{first}-0-0.{subdomain}"
                server_pod = next(pods(f"examples/{example}"))
                assert identity(server_pod)["csi.cert-manager.io/dns-names"] == host
    if example == "trainjob":
        (job,) = of_kind("examples/trainjob", "TrainJob")
        (variable,) = job["spec"]["initializer"]["model"]["env"]
        assert variable["name"] == "INITSERVE_TARGET"
        host = variable["value"].removeprefix("dns:///").partition(":")[0]
        assert host in names_of_the_certificate()
        found += 1
    assert found


def names_of_the_certificate() -> list[str]:
    """The hosts that clients may call the server of the overlays by."""
    certificates = {one["metadata"]["name"]: one for one in of_kind("overlays/cpu", "Certificate")}
    names: list[str] = certificates["initserver"]["spec"]["dnsNames"]
    return names


def identity(pod: dict[str, Any]) -> dict[str, str]:
    """What a pod asks of cert-manager's CSI driver."""
    (volume,) = (one for one in pod["volumes"] if "csi" in one)
    assert volume["csi"]["driver"] == "csi.cert-manager.io"
    asked: dict[str, str] = volume["csi"]["volumeAttributes"]
    return asked


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_client_has_a_certificate_of_its_own(example: str) -> None:
    """By the authority that the server trusts, in files that the user of the pod can read."""
    issuers = {one["metadata"]["name"] for one in of_kind("overlays/cpu", "Issuer")}
    clients = 0
    for pod in pods(f"examples/{example}"):
        for container in containers(pod):
            values = {one["name"]: one.get("value", "") for one in container.get("env", [])}
            if "INITSERVE_CA" not in values:
                assert command(container)[0] not in ("initclient", "torchrun") or (
                    "check.py" in " ".join(command(container))
                )
                continue
            clients += 1
            asked = identity(pod)
            assert asked["csi.cert-manager.io/issuer-name"] in issuers
            assert "client auth" in asked["csi.cert-manager.io/key-usages"]
            assert "POD_NAME" in asked["csi.cert-manager.io/common-name"]
            group = pod["securityContext"]["fsGroup"]
            assert asked["csi.cert-manager.io/fs-group"] == str(group)
            (mount,) = (one for one in container["volumeMounts"] if one["name"] == "identity")
            files = {values[f"INITSERVE_{one}"] for one in ("CA", "CERT", "KEY")}
            assert files == {
                f"{mount['mountPath']}/{one}" for one in ("ca.crt", "tls.crt", "tls.key")
            }
    assert clients == 1


def targets(pod: dict[str, Any]) -> Iterator[str]:
    for container in containers(pod):
        words = command(container)
        yield from (after for word, after in pairwise(words) if word == "--target")
        for one in container.get("env", []):
            if one["name"] == "INITSERVE_TARGET":
                yield one["value"]


@pytest.mark.parametrize("example", ["indexed-job", "torchrun", "trainjob"])
def test_the_network_policy_lets_them_in(example: str) -> None:
    (policy,) = of_kind("overlays/cpu", "NetworkPolicy")
    wanted = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    text = "".join((DEPLOY / f"examples/{example}").joinpath(f"{example}.yaml").read_text())
    for label, value in wanted.items():
        assert f'{label}: "{value}"' in text


@pytest.mark.parametrize("example", EXAMPLES)
def test_files_are_mounted_where_commands_look_for_them(example: str) -> None:
    for container in containers_of(example):
        folders = {one["mountPath"] for one in container["volumeMounts"]}
        for word in command(container):
            if word.startswith("/"):
                assert f"/{word.split('/')[1]}" in folders


def test_the_server_of_the_jobset_has_the_limits_of_the_service() -> None:
    (alone,) = (one for one in containers_of("jobset") if command(one)[0] == "initserver")
    _, deployed = server("overlays/cpu")
    assert alone["resources"] == deployed["resources"]
    assert alone["readinessProbe"]["httpGet"] == deployed["readinessProbe"]["httpGet"]


class Service(NamedTuple):
    """A server, and the certificate of a pod that may call it."""

    server: Running
    identity: Path


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that cert-manager would put into a trainer's pod and into the server's."""
    folder: Path = tmp_path_factory.mktemp("identity")
    authority = Authority()
    (folder / "ca.crt").write_bytes(authority.pem)
    authority.sign("worker").write(folder, "tls")
    authority.sign("server").write(folder, "server")
    return folder


@pytest.fixture(scope="module")
def service(identities: Path) -> Iterator[Service]:
    """A server as the overlay `cpu` has it: it takes callers with a certificate alone."""
    files = {"--tls-cert": "server.crt", "--tls-key": "server.key", "--tls-client-ca": "ca.crt"}
    flags = [word for flag, name in files.items() for word in (flag, identities / name)]
    with running(*map(str, flags)) as process:
        yield Service(process, identities)


def run_here(container: dict[str, Any], service: Service, folder: Path) -> str:
    """Runs a container's command on this machine, with its folders below `folder`."""
    places = {"/programs": str(PROGRAMS), "/weights": str(folder), "/workspace": str(folder)}
    places["/identity"] = str(service.identity)
    words = list(command(container))
    for number, word in enumerate(words):
        if number and words[number - 1] == "--target":
            words[number] = service.server.address
        for place, here in places.items():
            if word.startswith(place + "/"):
                words[number] = word.replace(place, here, 1)
    words[:1] = {
        "initclient": [sys.executable, "-m", "initclient"],
        "python": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
    }[words[0]]
    environment = os.environ | {
        "INITSERVE_TARGET": service.server.address,
        "PYTHONWARNINGS": "default",
    }
    for one in container.get("env", []):
        name, value = one["name"], one.get("value", "")
        if value.startswith("/identity/"):
            environment[name] = value.replace("/identity", places["/identity"], 1)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", ["indexed-job", "jobset"])
def test_workers_begin_with_the_bits_of_the_plan(
    example: str, service: Service, tmp_path: Path
) -> None:
    *_, pod = pods(f"examples/{example}")
    fetch, trainer = containers(pod)
    run_here(fetch, service, tmp_path)
    said = run_here(trainer, service, tmp_path)
    here = ic.fetch_file(ic.load_plan(PROGRAMS / "plan.yaml"), tmp_path / "here.safetensors")
    assert here.read_bytes() == (tmp_path / "init.safetensors").read_bytes()
    assert "4 tensors, SHA-256" in said


def test_the_initializer_of_the_trainjob_writes_what_its_trainer_reads(
    service: Service, tmp_path: Path
) -> None:
    initializer, node = (pod["containers"][0] for pod in pods("examples/trainjob"))
    run_here(initializer, service, tmp_path)
    assert "4 tensors, SHA-256" in run_here(node, service, tmp_path)


def test_ranks_of_torchrun_fetch_their_shards_alone(service: Service) -> None:
    (pod,) = pods("examples/torchrun")
    (trainer,) = pod["containers"]
    alone = {**trainer, "command": ["torchrun", "--nproc-per-node=2"], "args": trainer["args"][1:]}
    before = len(service.server.log)
    said = run_here(alone, service, ROOT)
    assert "rank 1: 0.weight: (512, 256) of (1024, 256)" in said
    # Four tensors, in float32; a few headers come on top.
    whole = 4 * (2 * 256 * 1024 + 1024 + 256)
    service.server.line(r"(?s)(?:Fetch, OK.*){2}")
    fetched = [line for line in service.server.log[before:] if "Fetch, OK" in line]
    sizes = [int(line.split(" bytes")[0].rsplit(" ", 1)[1]) for line in fetched]
    assert whole <= sum(sizes) < 1.1 * whole
    assert max(sizes) < 0.6 * whole
