"""The calls about models."""

from __future__ import annotations

from initcore import Plan
from initserve.v1 import service_pb2

from initclient._models.answers import read_model, read_models
from initclient._plan import Model, ModelInfo
from initclient._source import Request


def call_list_models(request: Request) -> list[ModelInfo]:
    """The models of the service that a request names."""
    from initclient._transport.blocking import ask
    from initclient._transport.channel import LIST_MODELS

    message, kind = service_pb2.ListModelsRequest(), service_pb2.ListModelsResponse
    return ask(request, LIST_MODELS, message, kind, read_models)


def call_get_model(request: Request, model: Model) -> Plan:
    """The plan of a model of the service that a request names."""
    from initclient._transport.blocking import ask
    from initclient._transport.channel import GET_MODEL

    message = service_pb2.GetModelRequest(
        name=model.name, expected_digest=model.digest or "", seed=model.seed
    )
    kind = service_pb2.GetModelResponse
    # Errors look at the seed that was asked for.
    request = request.naming(model.name, model.seed)
    return ask(request, GET_MODEL, message, kind, lambda one, at: read_model(one, model, at))
