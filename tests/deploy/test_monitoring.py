"""Alerts and the dashboard ask for what the server exports, in expressions that parse."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import initclient as ic
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.manifests import DEPLOY, OVERLAYS, ROOT, of_kind, server
from tests.server.certificates import Authority
from tests.server.processes import running

# What Prometheus adds to every series of a pod.
ADDED = {"namespace", "pod", "container", "le", "job", "instance"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of series and their labels, from servers that have served; with and without workers."""
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = Authority()
    cert, key = authority.sign("server").write(folder, "server")
    ca = folder / "ca.crt"
    ca.write_bytes(authority.pem)
    series: dict[str, set[str]] = {}
    for arguments in (["--tls-cert", cert, "--tls-key", key], ["--workers", "2"]):
        tls = "--tls-cert" in arguments
        with running("--metrics-listen", "127.0.0.1:0", *arguments) as process:
            address = process.address
            ic.fetch(
                ic.Plan(seed=7, tensors={"w": ic.normal((1000,))}),
                target=address,
                credentials=ic.Credentials(ca=str(ca)) if tls else None,
            )
            with urlopen(process.metrics + "/metrics", timeout=10) as answer:
                text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series.setdefault(sample.name, set()).update(sample.labels)
    return series


def alerts() -> dict[str, str]:
    (rules,) = of_kind("overlays/cpu", "PrometheusRule")
    return {one["alert"]: one["expr"] for one in rules["spec"]["groups"][0]["rules"]}


def dashboard_expressions() -> Iterator[str]:
    dashboard = json.loads((DEPLOY / "components/prometheus/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            # As Grafana fills its variables in.
            yield target["expr"].replace("$__rate_interval", "5m").replace("$namespace", "ml")


def expressions() -> list[str]:
    return [*alerts().values(), *dashboard_expressions()]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Names of series and the labels that are asked of them."""
    # The tree of the parser has no walk; the printed form is canonical, and every one of our
    # names has this form.
    text = promql_parser.parse(expression).prettify()
    for found in re.finditer(r"\b((?:initserver|process)_\w+)(?:\{([^}]*)\})?", text):
        yield found[1], set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found[2] or ""))


@pytest.mark.parametrize("expression", expressions())
def test_every_series_and_label_exists(expression: str, exported: dict[str, set[str]]) -> None:
    asked = list(selectors(expression))
    assert asked
    for name, labels in asked:
        assert name in exported
        assert labels <= exported[name] | ADDED
    grouped = re.findall(r"\bby \(([^)]*)\)", promql_parser.parse(expression).prettify())
    known = set().union(*(exported[name] for name, _ in asked)) | ADDED
    assert {label.strip() for one in grouped for label in one.split(",")} <= known


def test_the_codes_and_methods_in_alerts_are_those_of_the_server() -> None:
    text = "\n".join(alerts().values())
    assert "initserve.v1.InitService/Fetch" in text
    with running("--metrics-listen", "127.0.0.1:0") as process:
        ic.fetch(ic.Plan(seed=7, tensors={"w": ic.ones((10,))}), target=process.address)
        # A call is counted when it has ended on the server, which is after its last byte is here.
        deadline = time.monotonic() + 30
        text = ""
        while 'method="initserve.v1.InitService/Fetch"' not in text:
            assert time.monotonic() < deadline, text
            with urlopen(process.metrics + "/metrics", timeout=10) as answer:
                text = answer.read().decode()
            time.sleep(0.05)


@pytest.mark.parametrize("overlay", OVERLAYS[:3])
def test_the_alert_on_memory_knows_the_limit(overlay: str) -> None:
    _, container = server(f"overlays/{overlay}")
    assert container["resources"]["limits"]["memory"] == "3Gi"
    assert "0.9 * 3 * 1024 * 1024 * 1024" in alerts()["InitserverMemory"]


def test_the_alert_on_certificates_comes_after_they_should_have_been_renewed() -> None:
    ends = re.search(r"< (\d+) \* 24 \* 3600", alerts()["InitserverCertificateEnds"])
    assert ends
    for one in of_kind("overlays/mtls", "Certificate"):
        hours = int(one["spec"]["renewBefore"].removesuffix("h"))
        assert hours / 24 > int(ends[1])


def test_every_alert_is_explained() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for name in alerts():
        assert f"`{name}`" in page


def test_the_autoscaler_on_streams_asks_for_an_exported_metric(
    exported: dict[str, set[str]],
) -> None:
    (scaler,) = of_kind("overlays/gpu", "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in exported
    (rule,) = yaml.safe_load((DEPLOY / "overlays/gpu/adapter.yaml").read_text())["rules"]["custom"]
    assert rule["seriesQuery"].startswith(name + "{")


def test_the_dashboard_arrives_whole() -> None:
    (one,) = of_kind("overlays/cpu", "ConfigMap")
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads(one["data"]["initserver.json"])
    assert len(dashboard["panels"]) == len({panel["id"] for panel in dashboard["panels"]})


def test_the_codes_that_are_asked_for_exist() -> None:
    found = {
        code
        for text in expressions()
        for codes in re.findall(r'code!?=~?"([^"]*)"', text)
        for code in codes.split("|")
    }
    assert {"INTERNAL", "RESOURCE_EXHAUSTED"} <= found
    assert found <= {code.name for code in grpc.StatusCode}
