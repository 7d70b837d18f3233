"""The table of status codes and reasons: one for server, client and both pages of the docs.

`python tests/test_statuses.py` prints the tables that docs/client.md and docs/service.md show.
"""

from __future__ import annotations

import ast
import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import initclient as ic
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from initclient import aio
from initcore.wire import CODES, REASONS, Status, Step, status_of

from tests.client.servers import Changed, Response, serving

ROOT = Path(__file__).parent.parent
PLAN = ic.Plan({"w": ic.normal((40, 30))}, seed=1)
PAUSE = 0.2
ATTEMPTS = 3


def code_table() -> str:
    """The table of docs/client.md."""
    lines = [
        "| code of a server's answer | next step | if the server names a time | in the end |",
        "|---|---|---|---|",
    ]
    for row in CODES:
        named = row.step_after(1.0)
        then = named.value if named != row.step else ""
        if row.step == Step.AGAIN:
            then = "the same, not before that time"
        ends = sorted({row.error_after(None), row.error_after(1.0)}, reverse=True)
        lines.append(f"| {row.code} | {row.step.value} | {then} | {', '.join(ends)} |")
    return "\n".join(lines)


def reason_table() -> str:
    """The table of docs/service.md."""
    lines = [
        "| reason | code | metadata | also | the client |",
        "|---|---|---|---|---|",
    ]
    for row in REASONS:
        cells = (row.reason, row.code, ", ".join(row.metadata), row.details, row.step.value)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(lines)


def test_the_docs_show_the_tables() -> None:
    assert code_table() in (ROOT / "docs" / "client.md").read_text()
    assert reason_table() in (ROOT / "docs" / "service.md").read_text()


def test_the_table_has_every_code_and_each_reason_once() -> None:
    assert [row.code for row in CODES] == [code.name for code in grpc.StatusCode][1:]
    assert len({(row.code, row.reason) for row in REASONS}) == len(REASONS)
    for row in (*CODES, *REASONS):
        assert issubclass(getattr(ic, row.error), ic.InitserveError | ic.PlanError)
        assert status_of(row.code, row.reason) is row


def test_every_reason_of_the_server_is_in_the_table() -> None:
    """As (code, reason) in its source; a refusal that is not in the table cannot be made."""
    found = set()
    for path in (ROOT / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Refusal", "refusing"):
                code, reason = (ast.unparse(argument) for argument in node.args[:2])
                if code.startswith("grpc.StatusCode.") and reason.startswith("'"):
                    found.add((code.rpartition(".")[2], ast.literal_eval(reason)))
    assert len(found) >= 5
    assert found <= {(row.code, row.reason) for row in REASONS}
    from initserver.wire import Refusal

    with pytest.raises(ValueError, match="add it to initcore"):
        Refusal(grpc.StatusCode.NOT_FOUND, "LOST", "it is lost")


def refusing(row: Status, hint: str, context: grpc.ServicerContext) -> None:
    """Ends a call with a row's code and reason."""
    reason = row.reason.replace("*", "TENSORS")
    status = status_pb2.Status(code=grpc.StatusCode[row.code].value[0], message="words")
    if reason:
        info = error_details_pb2.ErrorInfo(reason=reason, domain="initserve")
        status.details.add().Pack(info)
    if row.error == "PlanError":
        bad_request = error_details_pb2.BadRequest()
        bad_request.field_violations.add(field="tensors[0].scheme", description="words")
        status.details.add().Pack(bad_request)
    trailers = {"trailer": str(int(PAUSE * 1000)), "never": "-1", "damaged": "soon"}
    if hint == "RetryInfo":
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromNanoseconds(int(PAUSE * 1e9))
        status.details.add().Pack(info)
    elif hint:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", trailers[hint]),))
    full = rpc_status.to_status(status)
    if hint in trailers:
        # The status and the hint are trailers both.
        pair = ("grpc-retry-pushback-ms", trailers[hint])
        context.set_trailing_metadata((*full.trailing_metadata, pair))
        context.abort(full.code, full.details)
    context.abort_with_status(full)


HINTS = {"": None, "RetryInfo": PAUSE, "trailer": PAUSE, "never": -1.0, "damaged": -1.0}
CASES = [
    pytest.param(row, hint, id=f"{row.code}-{row.reason}-{hint}")
    for row in (*CODES, *REASONS)
    for hint in HINTS
]


@pytest.mark.parametrize(("row", "hint"), CASES)
def test_the_client_does_as_the_table_says(row: Status, hint: str) -> None:
    """One server: the number of calls, their pauses and the error. Two: the other one serves."""

    def refuse(messages: list[Response], context: grpc.ServicerContext) -> Any:
        refusing(row, hint, context)

    pushback = HINTS[hint]
    step = row.step_after(pushback)
    calls = {Step.AGAIN: ATTEMPTS, Step.TWICE: 2, Step.OTHERS: 1, Step.FINAL: 1}.get(step)
    retry = ic.Retry(attempts=ATTEMPTS, base_delay=0.001, max_delay=0.01, patience=2.5 * PAUSE)
    server = Changed(refuse)
    with serving(server) as target:
        with pytest.raises((ic.InitserveError, ic.PlanError), match="words") as caught:
            ic.fetch(PLAN, target=target, retry=retry)
        times = [when for when, _ in server.requests]
        if row.code != "DEADLINE_EXCEEDED":
            assert type(caught.value).__name__ == row.error_after(pushback)
        if calls is not None:
            assert len(times) == calls
        else:
            assert len(times) >= 3
        if step in (Step.WAIT, Step.AGAIN) and pushback is not None:
            assert all(two - one > 0.9 * PAUSE for one, two in pairwise(times))
        if step == Step.FINAL:
            return
        with serving(Changed(lambda messages, context: None)) as healthy:
            expected = ic.fetch(PLAN, target="local")["w"]
            for _ in range(3):
                weights = ic.fetch(PLAN, target=[target, healthy], retry=retry)
                np.testing.assert_array_equal(weights["w"], expected)
                weights = asyncio.run(aio.fetch(PLAN, target=[target, healthy], retry=retry))
                np.testing.assert_array_equal(weights["w"], expected)


@pytest.mark.parametrize("row", CODES, ids=lambda row: row.code)
def test_a_pause_beyond_the_patience_is_not_waited_for(row: Status) -> None:
    def refuse(messages: list[Response], context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "9" * 300),))
        context.abort(grpc.StatusCode[row.code], "words")

    start = time.monotonic()
    retry = ic.Retry(patience=5.0, base_delay=0.001)
    with serving(Changed(refuse)) as target, pytest.raises(ic.InitserveError, match="words"):
        ic.fetch(PLAN, target=target, retry=retry)
    assert time.monotonic() - start < 4


if __name__ == "__main__":
    print(code_table(), reason_table(), sep="\n\n")
