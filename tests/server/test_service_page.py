"""docs/service.md says what the server has: every flag with its default, every metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from initserver.config.flags import _options
from initserver.observe.metrics import Metrics

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize("one", list(_options()), ids=lambda one: one.name)
def test_every_flag_is_on_the_page_with_its_default(one) -> None:  # type: ignore[no-untyped-def]
    (row,) = [row for row in ROWS if row[0] == f"`{one.flag}`"]
    if one.group == "limits":
        assert row[1] == one.shown_default
    else:
        assert row[1:3] == [f"`{one.variable}`", one.shown_default]


def test_every_metric_is_on_the_page_and_none_else() -> None:
    metrics = Metrics("numpy")
    metrics.certificate_expires(0)
    text = metrics.text()[0].decode()
    served = {
        name if kind != "counter" or name.endswith("_total") else f"{name}_total"
        for name, kind in re.findall(r"^# TYPE (initserver_\w+) (\w+)$", text, re.MULTILINE)
        if not name.endswith("_created")
    }
    shown = {row[0].strip("`") for row in ROWS if row[0].startswith("`initserver_")}
    assert shown == served | {"initserver_worker_restarts_total"}
