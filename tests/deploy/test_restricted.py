"""What a review asks: the `restricted` standard, images by digest, bounds for resources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.manifests import DEPLOY, FOLDERS, chart, containers, pods, pods_in, render, server

# Kubernetes' Pod Security Standards, level `restricted`: the kinds of volumes.
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def every_pod() -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of the overlays, of the examples, and of the chart with each of its values."""
    for folder in FOLDERS:
        for pod in pods(folder):
            yield folder, pod
    for values in [None, *sorted((DEPLOY / "chart" / "values").glob("*.yaml"))]:
        for manifest in chart(*(("--values", str(values)) if values else ())):
            for pod in pods_in(manifest):
                yield f"chart, {values.stem if values else 'defaults'}", pod


def violations(pod: dict[str, Any]) -> Iterator[str]:
    """What of a pod the level `restricted` refuses."""
    shared = pod.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    if shared.get("sysctls") or shared.get("seLinuxOptions"):
        yield "sysctls or SELinux options"
    for volume in pod.get("volumes", []):
        if not (set(volume) - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']}"
    for container in containers(pod):
        own = {**shared, **container.get("securityContext", {})}
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']}: privileges"
        if own.get("runAsNonRoot") is not True or own.get("runAsUser") == 0:
            yield f"{container['name']}: root"
        if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{container['name']}: seccomp"
        rights = own.get("capabilities", {})
        if "ALL" not in rights.get("drop", []) or set(rights.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{container['name']}: capabilities"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{container['name']}: host ports"


def test_every_pod_keeps_to_the_restricted_standard() -> None:
    """But the sidecar that mounts: mount propagation is for privileged containers alone."""
    found = 0
    for place, pod in every_pod():
        by_name = ["mount: privileges", "mount: root", "mount: capabilities"]
        assert list(violations(pod)) == (by_name if place == "examples/mount" else []), place
        found += 1
    assert found > len(FOLDERS)


@pytest.mark.parametrize(
    "change",
    [
        {"hostNetwork": True},
        {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        {"securityContext": {}},
        {"containers": [{"name": "a", "image": "a"}]},
    ],
)
def test_a_pod_that_does_not_would_be_found(change: dict[str, Any]) -> None:
    pod, _ = server("overlays/cpu")
    assert list(violations({**pod, **change}))


def test_images_are_named_by_digest() -> None:
    """All but the one that is loaded into a cluster on this machine, which no registry has."""
    for place, pod in every_pod():
        for container in containers(pod):
            if "local" in place:
                assert container["imagePullPolicy"] == "Never"
            else:
                assert DIGEST.fullmatch(container["image"]), (place, container["image"])


def test_the_server_has_a_priority_and_bounds_for_all_that_it_takes() -> None:
    for place, pod in every_pod():
        for container in pod["containers"]:
            if container["name"] != "initserver":
                continue
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) >= {"cpu", "memory", "ephemeral-storage"}
            scratch = [one["emptyDir"] for one in pod["volumes"] if "emptyDir" in one]
            assert all(one["sizeLimit"] for one in scratch)
            if "local" not in place and place != "examples/jobset":
                assert pod["priorityClassName"] == "initserver"


def test_the_overlay_of_the_old_name_is_the_overlay_cpu() -> None:
    assert render("overlays/mtls") == render("overlays/cpu")
