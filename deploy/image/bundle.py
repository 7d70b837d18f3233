"""Writes an OCI bundle that runs an image as the Deployment's pod would: `bundle.py --help`.

User, groups, capabilities, seccomp, read-only root, environment, volumes and limits are those
of the manifest, so what is tried with crun or runc is what a kubelet would start. What it
leaves out: probes (ask the ports) and the pod's network (the container has loopback alone).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

_UNITS = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# What container engines hide and protect.
_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def quantity(text: Any) -> float:
    """A Kubernetes quantity as a number: 500m is 0.5."""
    text = str(text)
    for unit, size in _UNITS.items():
        if text.endswith(unit):
            return float(text[: -len(unit)]) * size
    return float(text)


def pod_of(manifests: str) -> dict[str, Any]:
    """The pod of the one Deployment among rendered manifests."""
    (deployment,) = (one for one in yaml.safe_load_all(manifests) if one["kind"] == "Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def environment(image: list[str], container: dict[str, Any]) -> list[str]:
    """NAME=VALUE of the image and of the manifest, which wins."""
    values = dict(one.split("=", 1) for one in image)
    for one in container.get("env", []):
        if "value" in one:
            values[one["name"]] = one["value"]
        else:
            kind, _, resource = one["valueFrom"]["resourceFieldRef"]["resource"].partition(".")
            # Rounded up, as the kubelet does with the divisor 1.
            values[one["name"]] = str(
                int(-(-quantity(container["resources"][kind][resource]) // 1))
            )
    return [f"{name}={value}" for name, value in values.items()]


def seccomp(profile: dict[str, Any]) -> dict[str, Any]:
    """A profile as engines ship it, as runtimes take it, for a container without capabilities."""
    rules = []
    for rule in profile["syscalls"]:
        only, never = rule.get("includes", {}), rule.get("excludes", {})
        other_arch = "amd64" not in only.get("arches", ["amd64"]) or "amd64" in never.get(
            "arches", []
        )
        if only.get("caps") or other_arch:
            continue
        keys = ("names", "action", "args", "errnoRet")
        rules.append({key: rule[key] for key in keys if rule.get(key) not in (None, [])})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }


def config(
    pod: dict[str, Any], image: dict[str, Any], rootfs: str, profile: dict[str, Any]
) -> dict[str, Any]:
    """The runtime's config.json."""
    (container,) = pod["containers"]
    user, rights = pod["securityContext"], container["securityContext"]
    if rights["capabilities"] != {"drop": ["ALL"]}:
        raise SystemExit("this can only start pods that drop ALL capabilities and add none")
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _tmpfs("/dev", "mode=755", "size=65536k"),
        _tmpfs("/dev/shm", "nodev", "mode=1777", "size=65536k"),
    ]
    folders = {one["name"]: one["emptyDir"] for one in pod["volumes"] if "emptyDir" in one}
    for mount in container["volumeMounts"]:
        size = int(quantity(folders[mount["name"]]["sizeLimit"]))
        owner = ("mode=2777", f"gid={user['fsGroup']}")
        mounts.append(_tmpfs(mount["mountPath"], "nodev", *owner, f"size={size}"))
    limits = container["resources"]["limits"]
    return {
        "ociVersion": "1.0.2",
        "hostname": container["name"],
        "process": {
            "user": {
                "uid": user["runAsUser"],
                "gid": user["runAsGroup"],
                "additionalGids": [user["fsGroup"]],
            },
            "args": [*image["Entrypoint"], *container.get("args", [])],
            "env": environment(image["Env"], container),
            "cwd": image["WorkingDir"],
            "noNewPrivileges": not rights["allowPrivilegeEscalation"],
            "capabilities": {},
        },
        "root": {"path": rootfs, "readonly": rights["readOnlyRootFilesystem"]},
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": one} for one in ("pid", "ipc", "uts", "mount", "network")],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
            "seccomp": seccomp(profile),
            "resources": {
                "memory": {"limit": int(quantity(limits["memory"]))},
                "cpu": {"period": 100_000, "quota": int(quantity(limits["cpu"]) * 100_000)},
            },
        },
    }


def _tmpfs(path: str, *options: str) -> dict[str, Any]:
    options = ("nosuid", *options)
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def main() -> None:
    """Reads rendered manifests from standard input."""
    parser = argparse.ArgumentParser(description="kubectl kustomize OVERLAY | bundle.py ...")
    parser.add_argument("--rootfs", required=True, help="the image's files, as buildah mounts them")
    parser.add_argument("--image", required=True, help="the image's config, JSON: Entrypoint, Env")
    parser.add_argument("--seccomp", required=True, help="RuntimeDefault, as engines ship it: JSON")
    parser.add_argument("--out", required=True, help="folder of the bundle")
    options = parser.parse_args()
    image = json.loads(Path(options.image).read_text())
    profile = json.loads(Path(options.seccomp).read_text())
    made = config(pod_of(sys.stdin.read()), image, options.rootfs, profile)
    Path(options.out, "config.json").write_text(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
