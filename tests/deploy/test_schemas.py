"""Every manifest is what Kubernetes, and the operators it relies on, say that it must be."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.manifests import FOLDERS, render

# The oldest that gets patches, and the latest; fields that are there at both ends stay.
VERSIONS = ("1.34", "1.37")

OPERATORS = ("cert-manager.io", "monitoring.coreos.com", "jobset.x-k8s.io", "trainer.kubeflow.org")


def is_custom(manifest: dict[str, Any]) -> bool:
    return manifest["apiVersion"].partition("/")[0] in OPERATORS


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_for_kubernetes(version: str) -> None:
    for folder in FOLDERS:
        for manifest in render(folder):
            if not is_custom(manifest):
                kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"prots": []},
    }
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_every_custom_resource_is_what_its_operator_publishes() -> None:
    """The models drop fields that they do not know, so everything has to come back."""
    found = set()
    for folder in FOLDERS:
        for manifest in filter(is_custom, render(folder)):
            missing = list(lost(manifest, through_model(manifest)))
            assert not missing, (folder, manifest["kind"], missing)
            found.add(manifest["kind"])
    assert found == {
        *("Certificate", "Issuer", "PodMonitor", "PrometheusRule"),
        *("JobSet", "TrainJob", "TrainingRuntime"),
    }


def test_a_misspelt_field_of_a_custom_resource_would_be_found() -> None:
    (monitor,) = (one for one in render("overlays/cpu") if one["kind"] == "PodMonitor")
    wrong = {**monitor, "spec": {**monitor["spec"], "podMetricEndpoints": []}}
    assert list(lost(wrong, through_model(wrong))) == [".spec.podMetricEndpoints"]


def through_model(manifest: dict[str, Any]) -> Any:
    """The manifest as the published model of its kind reads and writes it."""
    group, kind = manifest["apiVersion"].partition("/")[0], manifest["kind"]
    if group == "cert-manager.io":
        from cloudcoil.models.cert_manager import v1 as models
    elif group == "monitoring.coreos.com":
        from cloudcoil.models.prometheus_operator import v1 as models
    else:
        from kubeflow_trainer_api import models as kubeflow

        names = {"jobset.x-k8s.io": "JobsetV1alpha2JobSet"}
        model = getattr(kubeflow, names.get(group, f"TrainerV1alpha1{kind}"))
        return model.from_dict(manifest).to_dict()
    read = getattr(models, kind).model_validate(manifest)
    return read.model_dump(mode="json", by_alias=True, exclude_unset=True)


def lost(given: Any, back: Any, path: str = "") -> Any:
    """Paths of what was given and did not come back."""
    if isinstance(given, dict) and isinstance(back, dict):
        for key, value in given.items():
            if key in back:
                yield from lost(value, back[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for index, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif given != back:
        yield path
