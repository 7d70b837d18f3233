"""The blocking gRPC shell: calls, deadlines, and nothing that knows what bytes mean.

Imported only when a server is asked, since importing gRPC costs more than a small plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from initcore import Layout
from initcore.conversion import to_proto
from initserve.v1 import service_pb2, service_pb2_grpc

from initclient._exceptions import IntegrityError
from initclient._progress import Progress
from initclient._receiver import Receiver, Sink, check_info
from initclient._status import translate

# Chunks are 1 to 2 MiB; the header of a plan with very many tensors is longer.
_OPTIONS = [("grpc.max_receive_message_length", 128 << 20)]


@contextmanager
def open_stub(target: str) -> Iterator[service_pb2_grpc.InitServiceStub]:
    """A connection of its own, so that forked processes never share one."""
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        yield service_pb2_grpc.InitServiceStub(channel)  # type: ignore[no-untyped-call]


def download(
    layout: Layout,
    target: str,
    sink: Sink,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Receives the whole file of a layout.

    Returns:
        What the server says about the plan, for people.

    Raises:
        InitserveError: if it cannot be had; the sink may hold a part of it by then.
        PlanError: if the server refuses the plan.
    """
    receiver = Receiver(layout, sink, target)
    with open_stub(target) as stub:
        call = stub.Fetch(receiver.request(), timeout=timeout)
        try:
            for message in call:
                receiver.feed(message)
                if progress and receiver.position:
                    progress(receiver.position, layout.size)
        except grpc.RpcError as error:
            raise translate(error, target, layout.plan, receiver.arrived) from error
        finally:
            call.cancel()
    receiver.finish()
    return receiver.warnings


def describe(layout: Layout, target: str, timeout: float | None) -> service_pb2.DescribeResponse:
    """What a server resolves the plan to.

    Raises:
        InitserveError: if it does not answer, or resolves it to another file.
        PlanError: if the server refuses the plan.
    """
    request = service_pb2.DescribeRequest(plan=to_proto(layout.plan))
    with open_stub(target) as stub:
        try:
            response = stub.Describe(request, timeout=timeout)
        except grpc.RpcError as error:
            raise translate(error, target, layout.plan) from error
    check_info(response.info, layout, target)
    if response.header != layout.header:
        raise IntegrityError(f"{target} has another header for this plan than this client")
    assert isinstance(response, service_pb2.DescribeResponse)
    return response
