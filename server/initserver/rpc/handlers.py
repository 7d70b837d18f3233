"""The methods of InitService as gRPC calls them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from initserve.v1 import service_pb2

from initserver.rpc.service import InitService, Response
from initserver.rpc.turns import MOST_TURNS
from initserver.values import Caller
from initserver.wire import (
    Incoming,
    Refusal,
    answered,
    read_describe,
    read_fetch,
    read_get_model,
    read_nothing,
    serialize_response,
)

SERVICE_NAME = service_pb2.DESCRIPTOR.services_by_name["InitService"].full_name

# A stream above the limit needs a thread too, to be refused, and so does one whose request is
# still on its way.
_SPARE_THREADS = 4 + MOST_TURNS
_DESCRIPTION_THREADS = 8 + MOST_TURNS


def stream_threads(service: InitService) -> ThreadPoolExecutor:
    """The threads that serve downloads, one each.

    They are separate from the server's own threads, so that other calls are answered while
    all of these are busy.
    """
    return ThreadPoolExecutor(service.limits.max_streams + _SPARE_THREADS, "initserver-stream")


def description_threads() -> ThreadPoolExecutor:
    """The threads of Describe, which wait for plans that are laid out."""
    return ThreadPoolExecutor(_DESCRIPTION_THREADS, "initserver-describe")


def add_to_server(
    service: InitService,
    server: grpc.Server,
    streams: ThreadPoolExecutor,
    descriptions: ThreadPoolExecutor | None = None,
) -> None:
    """Registers the service's methods.

    The generated function for this would tie Fetch to protobuf's own serializer, and all of
    them to its parser: gRPC answers INTERNAL where that fails.

    Args:
        service: answers the calls.
        server: a server that has not started.
        streams: from `stream_threads`.
        descriptions: from `description_threads`; None takes `streams`.
    """

    def fetch(request: Incoming, context: grpc.ServicerContext) -> Iterator[Response]:
        with answered(context):
            yield from service.fetch(request, _caller(context))

    def describe(
        request: Incoming, context: grpc.ServicerContext
    ) -> service_pb2.DescribeResponse | None:
        with answered(context):
            return service.describe(request, _caller(context))

    def get_server_info(
        request: bytes, context: grpc.ServicerContext
    ) -> service_pb2.GetServerInfoResponse | None:
        with answered(context):
            return service.server_info()

    def list_models(
        request: bytes, context: grpc.ServicerContext
    ) -> service_pb2.ListModelsResponse | None:
        with answered(context):
            return service.list_models()

    def get_model(
        request: service_pb2.GetModelRequest | Refusal, context: grpc.ServicerContext
    ) -> bytes | None:
        with answered(context):
            return service.get_model(request, _caller(context))

    # gRPC looks for this attribute; without it, it uses the server's pool.
    fetch.experimental_thread_pool = streams  # type: ignore[attr-defined]
    # Fingerprints take as long as a download.
    describe.experimental_thread_pool = descriptions or streams  # type: ignore[attr-defined]
    # Models that changed are laid out again.
    list_models.experimental_thread_pool = descriptions or streams  # type: ignore[attr-defined]
    get_model.experimental_thread_pool = descriptions or streams  # type: ignore[attr-defined]
    handlers: dict[str, Any] = {
        "Fetch": grpc.unary_stream_rpc_method_handler(
            fetch, request_deserializer=read_fetch, response_serializer=serialize_response
        ),
        "Describe": grpc.unary_unary_rpc_method_handler(
            describe,
            request_deserializer=read_describe,
            response_serializer=service_pb2.DescribeResponse.SerializeToString,
        ),
        "GetServerInfo": grpc.unary_unary_rpc_method_handler(
            get_server_info,
            request_deserializer=read_nothing,
            response_serializer=service_pb2.GetServerInfoResponse.SerializeToString,
        ),
        "ListModels": grpc.unary_unary_rpc_method_handler(
            list_models,
            request_deserializer=read_nothing,
            response_serializer=service_pb2.ListModelsResponse.SerializeToString,
        ),
        "GetModel": grpc.unary_unary_rpc_method_handler(
            get_model,
            request_deserializer=read_get_model,
            response_serializer=None,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    server.add_registered_method_handlers(SERVICE_NAME, handlers)


def _caller(context: grpc.ServicerContext) -> Caller:
    def end(reason: str) -> None:
        context.set_details(reason)
        context.cancel()

    caller = Caller(end)
    # False: the call has ended already.
    if not context.add_callback(caller.cancel):
        caller.cancel()
    return caller
