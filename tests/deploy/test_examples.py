"""The examples for trainers: their commands are real, and do what the README says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import initclient as ic
import pytest
from initclient.cli import _parser as client_parser
from initserver.cli import _parser as server_parser

from tests.deploy.manifests import DEPLOY, EXAMPLES, ROOT, containers, of_kind, pods, server
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
            name, _, port = target.removeprefix("dns:///").partition(":")
            if name in services:
                assert int(port) == services[name]["spec"]["ports"][0]["port"]
            else:
                (job_set,) = of_kind(f"examples/{example}", "JobSet")
                job, subdomain = (
                    job_set["metadata"]["name"],
                    job_set["spec"]["network"]["subdomain"],
                )
                first = job_set["spec"]["replicatedJobs"][0]["name"]
                assert name == f"{job}-{first}-0-0.{subdomain}"
    if example == "trainjob":
        (job,) = of_kind("examples/trainjob", "TrainJob")
        (variable,) = job["spec"]["initializer"]["model"]["env"]
        assert variable["name"] == "INITSERVE_TARGET"
        assert variable["value"].removeprefix("dns:///").partition(":")[0] in services
        found += 1
    assert found


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
    assert alone["readinessProbe"]["grpc"] == deployed["readinessProbe"]["grpc"]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running() as process:
        yield process


def run_here(container: dict[str, Any], service: Running, folder: Path) -> str:
    """Runs a container's command on this machine, with its folders below `folder`."""
    places = {"/programs": str(PROGRAMS), "/weights": str(folder), "/workspace": str(folder)}
    words = list(command(container))
    for number, word in enumerate(words):
        if number and words[number - 1] == "--target":
            words[number] = service.address
        for place, here in places.items():
            if word.startswith(place + "/"):
                words[number] = word.replace(place, here, 1)
    words[:1] = {
        "initclient": [sys.executable, "-m", "initclient"],
        "python": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
    }[words[0]]
    environment = os.environ | {"INITSERVE_TARGET": service.address, "PYTHONWARNINGS": "default"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", ["indexed-job", "jobset"])
def test_workers_begin_with_the_bits_of_the_plan(
    example: str, service: Running, tmp_path: Path
) -> None:
    *_, pod = pods(f"examples/{example}")
    fetch, trainer = containers(pod)
    run_here(fetch, service, tmp_path)
    said = run_here(trainer, service, tmp_path)
    here = ic.fetch_file(ic.load_plan(PROGRAMS / "plan.yaml"), tmp_path / "here.safetensors")
    assert here.read_bytes() == (tmp_path / "init.safetensors").read_bytes()
    assert "4 tensors, SHA-256" in said


def test_the_initializer_of_the_trainjob_writes_what_its_trainer_reads(
    service: Running, tmp_path: Path
) -> None:
    initializer, node = (pod["containers"][0] for pod in pods("examples/trainjob"))
    run_here(initializer, service, tmp_path)
    assert "4 tensors, SHA-256" in run_here(node, service, tmp_path)


def test_ranks_of_torchrun_fetch_their_shards_alone(service: Running) -> None:
    (pod,) = pods("examples/torchrun")
    (trainer,) = pod["containers"]
    alone = {**trainer, "command": ["torchrun", "--nproc-per-node=2"], "args": trainer["args"][1:]}
    before = len(service.log)
    said = run_here(alone, service, ROOT)
    assert "rank 1: 0.weight: (512, 256) of (1024, 256)" in said
    # Four tensors, in float32; a few headers come on top.
    whole = 4 * (2 * 256 * 1024 + 1024 + 256)
    service.line(r"(?s)(?:Fetch, OK.*){2}")
    fetched = [line for line in service.log[before:] if "Fetch, OK" in line]
    sizes = [int(line.split(" bytes")[0].rsplit(" ", 1)[1]) for line in fetched]
    assert whole <= sum(sizes) < 1.1 * whole
    assert max(sizes) < 0.6 * whole
