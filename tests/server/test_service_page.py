"""docs/service.md lists what the server has: every flag with its default, every metric."""

from __future__ import annotations

from pathlib import Path

import pytest
from initserver.config.flags import _options
from initserver.values.metrics import declarations

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


def test_every_metric_is_on_the_page_with_its_labels_and_no_other_is() -> None:
    shown = {row[0].strip("`"): row[1] for row in ROWS if row[0].startswith("`initserver_")}
    assert shown == {one.series: ", ".join(one.labels) for one in declarations()}
