"""The Helm chart makes what the overlays make, object by object."""

from __future__ import annotations

from typing import Any

import initcore
import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import DEPLOY, chart, helm, render
from tests.deploy.test_schemas import VERSIONS, is_custom, lost, through_model

VALUES = DEPLOY / "chart" / "values"
OVERLAYS = ("cpu", *sorted(path.stem for path in VALUES.glob("*.yaml")))


def of_overlay(overlay: str) -> tuple[dict[str, Any], ...]:
    """The chart with the values that stand for an overlay; those of `cpu` are the defaults."""
    return chart(*(() if overlay == "cpu" else ("--values", str(VALUES / f"{overlay}.yaml"))))


def by_name(manifests: tuple[dict[str, Any], ...]) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name; lists that Kubernetes merges by name are in the order of names."""
    return {(one["kind"], one["metadata"]["name"]): _sorted(one) for one in manifests}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items()}
    if isinstance(value, list):
        inner = [_sorted(one) for one in value]
        if inner and all(isinstance(one, dict) and ("name" in one) for one in inner):
            return sorted(inner, key=lambda one: (str(one["name"]), str(one.get("mountPath"))))
        return inner
    return value


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_chart_makes_what_the_overlay_makes(overlay: str) -> None:
    wanted = by_name(render(f"overlays/{overlay}"))
    found = by_name(of_overlay(overlay))
    # `helm --create-namespace` makes it.
    wanted.pop(("Namespace", "ml"), None)
    assert set(found) == set(wanted)
    for key, manifest in wanted.items():
        assert found[key] == manifest, key


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_objects_of_the_chart_are_valid(overlay: str) -> None:
    for manifest in of_overlay(overlay):
        if is_custom(manifest):
            assert not list(lost(manifest, through_model(manifest))), manifest["kind"]
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)


def test_the_version_of_the_chart_is_that_of_the_release() -> None:
    about = yaml.safe_load((DEPLOY / "chart" / "Chart.yaml").read_text())
    assert {about["version"], about["appVersion"]} == {initcore.__version__.removesuffix(".dev0")}


def test_the_chart_follows_the_linter_and_its_namespace() -> None:
    done = helm("lint", "--strict", str(DEPLOY / "chart"))
    assert done.returncode == 0, done.stdout + done.stderr
    (certificate,) = (
        one
        for one in chart("--namespace", "other")
        if one["kind"] == "Certificate" and one["metadata"]["name"] == "initserver"
    )
    assert "init-pods.other.svc" in certificate["spec"]["dnsNames"]


def test_without_a_name_there_is_no_class_of_priority() -> None:
    objects = chart("--set", "priorityClass.name=")
    assert not [one for one in objects if one["kind"] == "PriorityClass"]
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    assert "priorityClassName" not in deployment["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--set", "access=open"], 'access is "open"; use mtls, tokens or plaintext'),
        (["--set", "image.digest="], "image: give a digest, or a tag"),
        (["--set", "image.digest=sha256:12"], "digest"),
        (["--set", "gpus=true"], "gpus"),
        (["--set", "networkPolicy.enable=false"], "enable"),
        (["--set-string", "gpu=false"], "gpu"),
        # Helm would write a large number as 2.68435456e+08.
        (["--set", "cacheBytes=268435456"], "cacheBytes"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(wrong: list[str], said: str) -> None:
    done = helm("template", "initserver", str(DEPLOY / "chart"), *wrong)
    assert done.returncode
    assert said in done.stderr
