"""The methods of InitService as gRPC calls them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from initserve.v1 import service_pb2

from initserver._encoding import serialize_response
from initserver._refusals import answered
from initserver._service import InitService, Response

SERVICE_NAME = service_pb2.DESCRIPTOR.services_by_name["InitService"].full_name


def add_to_server(service: InitService, server: grpc.Server, streams: ThreadPoolExecutor) -> None:
    """Registers the service's methods.

    The generated function for this would tie Fetch to protobuf's own serializer.

    Args:
        service: what answers.
        server: a server that has not started.
        streams: the threads that serve downloads. Apart from the server's own, so that
            health checks are answered while every one of these is busy.
    """

    def fetch(
        request: service_pb2.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[Response]:
        with answered(context):
            yield from service.fetch(request, context.is_active)

    def describe(
        request: service_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> service_pb2.DescribeResponse | None:
        with answered(context):
            return service.describe(request)

    def get_server_info(
        request: service_pb2.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> service_pb2.GetServerInfoResponse | None:
        with answered(context):
            return service.server_info()

    # grpc looks for this attribute and uses the server's pool where it is missing.
    fetch.experimental_thread_pool = streams  # type: ignore[attr-defined]
    handlers: dict[str, Any] = {
        "Fetch": grpc.unary_stream_rpc_method_handler(
            fetch,
            request_deserializer=service_pb2.FetchRequest.FromString,
            response_serializer=serialize_response,
        ),
        "Describe": grpc.unary_unary_rpc_method_handler(
            describe,
            request_deserializer=service_pb2.DescribeRequest.FromString,
            response_serializer=service_pb2.DescribeResponse.SerializeToString,
        ),
        "GetServerInfo": grpc.unary_unary_rpc_method_handler(
            get_server_info,
            request_deserializer=service_pb2.GetServerInfoRequest.FromString,
            response_serializer=service_pb2.GetServerInfoResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    server.add_registered_method_handlers(SERVICE_NAME, handlers)
