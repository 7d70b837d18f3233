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

from tests.deploy.manifests import DEPLOY, ROOT, of_kind, server
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


def test_the_alert_on_memory_follows_the_limit() -> None:
    """Of each pod, as kube-state-metrics tells it, so that a change of the limit is enough."""
    expression = alerts()["InitserverMemory"]
    assert (
        'kube_pod_container_resource_limits{container="initserver",resource="memory"}' in expression
    )
    assert "1024" not in expression
    _, container = server("overlays/cpu")
    assert container["name"] == "initserver"


def test_the_alert_on_certificates_comes_after_they_should_have_been_renewed() -> None:
    ends = re.search(r"< (\d+) \* 24 \* 3600", alerts()["InitserverCertificateEnds"])
    assert ends
    for one in of_kind("overlays/cpu", "Certificate"):
        hours = int(one["spec"]["renewBefore"].removesuffix("h"))
        assert hours / 24 > int(ends[1])


def test_every_alert_leads_to_its_section() -> None:
    """`runbook_url` is the section of the page as the site has it."""
    page = (ROOT / "docs/operations.md").read_text()
    (rules,) = of_kind("overlays/cpu", "PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        name = rule["alert"]
        section = page.split(f"\n### {name}\n")[1].split("\n#")[0]
        assert "**What to do.**" in section, name
        url = rule["annotations"]["runbook_url"]
        assert url.endswith(f"/operations.html#{name.lower()}")


def test_the_stack_of_the_operator_selects_all_of_it() -> None:
    """kube-prometheus-stack takes objects with the name of its release, unless told otherwise."""
    for kind in ("PodMonitor", "PrometheusRule"):
        (one,) = of_kind("overlays/cpu", kind)
        assert one["metadata"]["labels"]["release"] == "kube-prometheus-stack"


# The word that stands in a panel's title for each series that it asks for.
WORDS = {
    "initserver_sent_bytes_total": "Bytes sent",
    "initserver_generated_bytes_total": "generated",
    "initserver_streams_in_flight": "Downloads in flight",
    "initserver_calls_total": "Calls",
    "initserver_call_seconds_bucket": "Duration of downloads",
    "initserver_generation_seconds_bucket": "make a chunk",
    "initserver_cache_hits_total": "not made again",
    "initserver_generation_seconds_count": "not made again",
    "initserver_elements_total": "Elements",
    "initserver_cache_bytes": "in the cache",
    "initserver_cache_evictions_total": "evicted",
    "process_resident_memory_bytes": "Resident memory",
    "process_cpu_seconds_total": "CPU cores",
    "initserver_certificate_expiry_timestamp_seconds": "certificate ends",
    "initserver_info": "Replicas",
}


def said_by(queries: list[str]) -> tuple[set[str], bool, set[str], set[str]]:
    """What queries show: series, whether it is a rate, the labels of a line, and quantiles."""
    series = {name for query in queries for name, _ in selectors(query)}
    text = " ".join(queries)
    quantiles = set(re.findall(r"histogram_quantile\(([\d.]+)", text))
    grouped = [one.split(", ") for one in re.findall(r"\bby \(([^)]*)\)", text)]
    labels = {label for one in grouped for label in one} - {"le"}
    if not re.search(r"\b(sum|count|histogram_quantile)\b", text):
        labels = {"pod"}  # one line for each series, which differ by their pod
    is_share = ") / (" in text
    is_rate = "rate(" in text and not quantiles and not is_share and "cpu" not in text
    return series, is_rate, labels, quantiles


def test_the_title_of_a_panel_is_its_query() -> None:
    dashboard = json.loads((DEPLOY / "components/prometheus/dashboard.json").read_text())
    names = {"0.5": "median", "0.99": "99th percentile"}
    for panel in dashboard["panels"]:
        title: str = panel["title"]
        queries = [one["expr"].replace("$__rate_interval", "5m") for one in panel["targets"]]
        series, is_rate, labels, quantiles = said_by(queries)
        assert {word for word in WORDS.values() if word in title} == {WORDS[one] for one in series}
        assert ("a second" in title) == is_rate, title
        assert title.startswith("Share of ") == (") / (" in queries[0]), title
        by = re.search(r", by (.*)$", title)
        said = set(re.split(r", | and ", by[1])) if by else set()
        assert {one.replace(" ", "_") for one in said} == labels, title
        assert {name for one, name in names.items() if one in quantiles} == {
            name for name in names.values() if name in title
        }, title


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
