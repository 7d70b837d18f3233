"""Writes what an image is made of, and how it was built: `attest.py --help`.

Two files, for `cosign attest` or for an archive beside the image:

- sbom.cdx.json: CycloneDX. The Python packages of the lock with their hashes, and the Debian
  packages of the base, from the image's own list.
- provenance.json: SLSA provenance 1 in an in-toto statement. The image's digest, the commit, the
  build arguments, and the digests of base and lock.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy" / "image" / "requirements"
SOURCE = "git+https://example.com/initserve"  # where yours is

_PIN = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)((?:.*\\\n)*.*)", re.MULTILINE)


def pinned(lock: str) -> Iterator[Component]:
    """The Python packages of a lock, each with the hashes of the files that may be installed."""
    for name, version, rest in _PIN.findall(lock):
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
            hashes=[
                HashType(alg=HashAlgorithm.SHA_256, content=one)
                for one in re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)
            ],
        )


def of_debian(status: str) -> Iterator[Component]:
    """The packages in the list of dpkg, /var/lib/dpkg/status."""
    for entry in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.*)$", entry, re.M))
        if fields.get("Status", "").endswith(" installed"):
            yield Component(
                type=ComponentType.LIBRARY,
                name=fields["Package"],
                version=fields["Version"],
                purl=PackageURL(
                    "deb",
                    "debian",
                    fields["Package"],
                    fields["Version"],
                    {"arch": fields["Architecture"]},
                ),
            )


def bill(image: str, version: str, lock: str, status: str) -> dict[str, Any]:
    """The bill of materials of an image."""
    whole = Component(
        type=ComponentType.CONTAINER,
        name=image,
        version=version,
        purl=PackageURL("pypi", None, "initserve", version),
    )
    bom = Bom(components=[*pinned(lock), *of_debian(status)])
    bom.metadata.component = whole
    bom.register_dependency(whole, bom.components)
    made: dict[str, Any] = json.loads(
        make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    )
    return made


def provenance(
    image: str,
    digest: str,
    *,
    target: str,
    revision: str,
    base: str,
    arguments: Mapping[str, str],
    lock: str,
    began: str,
    ended: str,
) -> dict[str, Any]:
    """How an image was built; `digest` is that of its manifest, sha256:..."""
    base_name, _, base_digest = base.partition("@sha256:")
    materials: list[dict[str, Any]] = [
        {"uri": SOURCE, "digest": {"gitCommit": revision}},
        {
            "uri": f"deploy/image/requirements/{target}.txt",
            "digest": {"sha256": sha256(lock.encode()).hexdigest()},
        },
    ]
    if base_digest:
        materials.append({"uri": f"docker://{base_name}", "digest": {"sha256": base_digest}})
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": image, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{SOURCE}/deploy/Dockerfile",
                "externalParameters": {"target": target, "base": base, "arguments": {**arguments}},
                "internalParameters": {},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {"id": f"{SOURCE}/deploy/build-and-check.sh"},
                "metadata": {"startedOn": began, "finishedOn": ended},
            },
        },
    }


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, help="its name, without tag and digest")
    parser.add_argument("--digest", required=True, help="of its manifest: sha256:...")
    parser.add_argument("--target", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--version", required=True)
    parser.add_argument("--revision", required=True, help="the commit")
    parser.add_argument("--base", required=True, help="the base image, best with its digest")
    parser.add_argument("--root", type=Path, required=True, help="the image's files, mounted")
    parser.add_argument("--began", default=_now(), help="when the build began (ISO 8601)")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="the folder for both files")
    given = parser.parse_args()
    lock = (LOCKS / f"{given.target}.txt").read_text("utf-8")
    status = (given.root / "var/lib/dpkg/status").read_text("utf-8")
    given.out.mkdir(parents=True, exist_ok=True)
    files = {
        "sbom.cdx.json": bill(given.image, given.version, lock, status),
        "provenance.json": provenance(
            given.image,
            given.digest,
            target=given.target,
            revision=given.revision,
            base=given.base,
            arguments=dict(one.split("=", 1) for one in given.build_arg),
            lock=lock,
            began=given.began,
            ended=_now(),
        ),
    }
    for name, content in files.items():
        (given.out / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        print(given.out / name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


if __name__ == "__main__":
    main()
