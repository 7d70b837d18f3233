"""What the manifests tell the server, and what they ask of it, is what the server knows."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from initserver.config.flags import PREFIX, Settings, _options, add_flags, settings
from initserver.config.server_config import split_address

from deploy.image.bundle import quantity
from tests.deploy.manifests import (
    DEPLOY,
    FOLDERS,
    OVERLAYS,
    SECURE,
    containers,
    of_kind,
    pods,
    server,
    variables,
)
from tests.server.certificates import Authority
from tests.server.processes import running

# Variables that are not the server's flags: the client's, and those of libraries.
CLIENT = {"INITSERVE_TARGET", "INITSERVE_CA", "INITSERVE_CERT", "INITSERVE_KEY"}
LIBRARIES = {"OPENBLAS_NUM_THREADS", "HOME", "SSL_CERT_FILE"}
HUGGING_FACE = {"HF_ENDPOINT", "HF_TOKEN", "HF_HOME"} | {
    f"HF_HUB_DISABLE_{one}" for one in ("XET", "TELEMETRY", "UPDATE_CHECK")
}

# Seconds between the signal and a port that is closed; docs/service.md.
DRAIN = 1

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def told(overlay: str) -> Settings:
    """The settings that the server would find in its pod."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_flags(parser)
    _, container = server(f"overlays/{overlay}")
    return settings(parser.parse_args(container.get("args", [])), variables(container))


@each_overlay
def test_the_server_understands_all_that_it_is_told(overlay: str) -> None:
    understood = told(overlay).server
    assert understood.threads
    assert understood.insecure == (overlay not in SECURE)
    assert bool(understood.tls_cert) == (overlay in SECURE)
    assert bool(understood.token_file) == (overlay == "tokens")
    assert bool(understood.tls_client_ca) == (overlay in SECURE and overlay != "tokens")
    assert understood.backend == ("cupy" if overlay == "gpu" else "native")


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_variable_is_misspelt(folder: str) -> None:
    known = {one.variable for one in _options()} | CLIENT | LIBRARIES | HUGGING_FACE
    for pod in pods(folder):
        for container in containers(pod):
            assert set(variables(container)) <= known


def test_the_image_sets_variables_of_the_server() -> None:
    known = {one.variable for one in _options()}
    text = (DEPLOY / "Dockerfile").read_text()
    found = set(re.findall(rf"\b({PREFIX}\w+)=", text))
    assert found
    assert found <= known


@each_overlay
def test_ports_are_where_the_server_listens(overlay: str) -> None:
    _, container = server(f"overlays/{overlay}")
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    listening = told(overlay).server
    assert listening.metrics_listen
    assert ports == {
        "grpc": split_address(listening.listen)[1],
        "metrics": split_address(listening.metrics_listen)[1],
    }
    for one in of_kind(f"overlays/{overlay}", "Service"):
        for port in one["spec"]["ports"]:
            assert port["targetPort"] in ports
    for one in of_kind(f"overlays/{overlay}", "NetworkPolicy"):
        for rule in one["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= set(ports)
    for one in of_kind(f"overlays/{overlay}", "PodMonitor"):
        assert {port["port"] for port in one["spec"]["podMetricsEndpoints"]} <= set(ports)


def test_the_image_listens_where_the_manifests_say() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    exposed = re.search(r"^EXPOSE (.*)$", text, re.M)
    assert exposed
    _, container = server("overlays/cpu")
    assert exposed[1].split() == [str(one["containerPort"]) for one in container["ports"]]
    for name in ("INITSERVE_LISTEN", "INITSERVE_METRICS_LISTEN"):
        assert f"{name}={variables(container)[name]}" in text


@each_overlay
def test_a_drain_fits_into_the_time_that_a_pod_is_given(overlay: str) -> None:
    pod, container = server(f"overlays/{overlay}")
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep + DRAIN + told(overlay).server.grace


@each_overlay
def test_memory_holds_the_caches_and_the_largest_matrix(overlay: str) -> None:
    _, container = server(f"overlays/{overlay}")
    limits = told(overlay).server.limits
    # Making a matrix takes about five times its bytes (docs/service.md); its values are float32.
    matrix = 5 * 4 * limits.max_matrix_elements
    process = 350 << 20
    needed = process + limits.cache_bytes + limits.matrix_cache_bytes + matrix
    assert quantity(container["resources"]["limits"]["memory"]) >= needed


@each_overlay
def test_threads_are_the_cpus_of_the_pod(overlay: str) -> None:
    _, container = server(f"overlays/{overlay}")
    (threads,) = (one for one in container["env"] if one["name"] == "INITSERVE_THREADS")
    reference = threads["valueFrom"]["resourceFieldRef"]
    assert reference == {"containerName": container["name"], "resource": "limits.cpu"}
    assert told(overlay).server.threads == math.ceil(
        quantity(container["resources"]["limits"]["cpu"])
    )


PRIVILEGED = ("examples/mount", "mount")
"""The one container outside the `restricted` standard: mount propagation is privileged."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_container_but_the_mount_is_confined(folder: str) -> None:
    for pod in pods(folder):
        user = pod["securityContext"]
        assert user["runAsNonRoot"] is True
        assert user["runAsUser"] > 0
        assert user["runAsGroup"] > 0
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            rights = container["securityContext"]
            if (folder, container["name"]) == PRIVILEGED:
                assert rights["privileged"] is True
                continue
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            # A read-only root needs a folder for what is temporary.
            assert "/tmp" in [one["mountPath"] for one in container["volumeMounts"]]


def test_the_image_runs_as_the_user_of_the_pods() -> None:
    found = re.search(r"^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert found
    pod, _ = server("overlays/cpu")
    user = pod["securityContext"]
    assert [int(one) for one in found.groups()] == [user["runAsUser"], user["runAsGroup"]]


def probes(overlay: str) -> dict[str, dict[str, Any]]:
    _, container = server(f"overlays/{overlay}")
    return {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}


@each_overlay
def test_probes_speak_plaintext_only_where_the_port_does(overlay: str) -> None:
    way = "httpGet" if told(overlay).server.tls_cert else "grpc"
    assert all(way in probe for probe in probes(overlay).values())


def test_grpc_probes_get_the_answers_that_they_wait_for() -> None:
    _, container = server("overlays/cpu")
    ports = {one["containerPort"]: one["name"] for one in container["ports"]}
    with running() as process, grpc.insecure_channel(process.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for overlay in set(OVERLAYS) - set(SECURE):
            for probe in probes(overlay).values():
                assert ports[probe["grpc"]["port"]] == "grpc"
                request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
                answer = check(request, timeout=10).status
                assert answer == health_pb2.HealthCheckResponse.SERVING


def test_http_probes_get_the_answers_that_they_wait_for_under_mutual_tls(
    tmp_path: Path,
) -> None:
    authority = Authority()
    cert, key = authority.sign("server").write(tmp_path, "server")
    clients = tmp_path / "clients.crt"
    clients.write_bytes(authority.pem)
    arguments = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", str(clients))
    with running("--metrics-listen", "127.0.0.1:0", *arguments) as process:
        paths = {probe["httpGet"]["path"] for one in SECURE for probe in probes(one).values()}
        assert {probe["httpGet"]["port"] for probe in probes("cpu").values()} == {"metrics"}
        for path in paths:
            with urlopen(process.metrics + path, timeout=10) as answer:
                assert answer.status == 200


def test_the_health_check_of_the_image_follows_the_server() -> None:
    check = [sys.executable, str(DEPLOY / "image/healthcheck.py")]
    with running("--metrics-listen", "127.0.0.1:0") as process:
        listening = {"INITSERVE_METRICS_LISTEN": process.metrics.removeprefix("http://")}
        assert subprocess.run(check, env=os.environ | listening).returncode == 0
        process.process.terminate()
        process.end()
    after = subprocess.run(check, env=os.environ | listening, capture_output=True, text=True)
    assert after.returncode == 1
    assert "not ready" in after.stderr


def test_selectors_find_the_pods() -> None:
    for overlay in OVERLAYS:
        folder = f"overlays/{overlay}"
        (deployment,) = of_kind(folder, "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        selectors = [one["spec"]["selector"] for one in of_kind(folder, "Service")]
        for kind in ("PodDisruptionBudget", "PodMonitor"):
            selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(folder, kind)]
        for one in of_kind(folder, "NetworkPolicy"):
            selectors.append(one["spec"]["podSelector"]["matchLabels"])
        for selector in selectors:
            assert selector
            assert selector.items() <= labels


def test_certificates_are_for_the_names_of_the_services() -> None:
    names = {one["metadata"]["name"] for one in of_kind("overlays/cpu", "Service")}
    certificates = {one["metadata"]["name"]: one for one in of_kind("overlays/cpu", "Certificate")}
    namespace = certificates["initserver"]["metadata"]["namespace"]
    hosts = {f"{name}.{namespace}.svc" for name in names}
    hosts |= {f"{host}.cluster.local" for host in hosts}
    assert set(certificates["initserver"]["spec"]["dnsNames"]) == hosts
    pod, container = server("overlays/cpu")
    (volume,) = (one for one in pod["volumes"] if "secret" in one)
    assert volume["secret"]["secretName"] == certificates["initserver"]["spec"]["secretName"]
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == volume["name"])
    values = variables(container)
    files = {values[f"INITSERVE_TLS_{one}"] for one in ("CERT", "KEY", "CLIENT_CA")}
    assert files == {f"{mount['mountPath']}/{one}" for one in ("tls.crt", "tls.key", "ca.crt")}


def test_the_bundle_of_the_check_is_the_pod() -> None:
    """What deploy/build-and-check.sh starts has the rights and limits of the manifest."""
    from deploy.image.bundle import config

    pod, _ = server("overlays/plaintext")
    image = {
        "Entrypoint": ["initserver"],
        "Env": ["A=b", "INITSERVE_LISTEN=x"],
        "WorkingDir": "/tmp",
    }
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    made = json.loads(json.dumps(config(pod, image, "/root", profile)))
    assert made["root"] == {"path": "/root", "readonly": True}
    assert made["process"]["user"]["uid"] == pod["securityContext"]["runAsUser"]
    assert made["process"]["capabilities"] == {}
    assert made["process"]["noNewPrivileges"] is True
    assert made["linux"]["resources"]["memory"]["limit"] == 3 << 30
    assert {"A=b", "INITSERVE_LISTEN=0.0.0.0:50051"} <= set(made["process"]["env"])
