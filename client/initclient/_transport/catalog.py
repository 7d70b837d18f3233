"""Reads the answers about models: checks plans against their digests."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message
from initcore import Plan
from initcore.show import printable
from initcore.wire import Item, plan_of
from initserve.v1 import service_pb2

from initclient._exceptions import IntegrityError
from initclient._plan import Model, ModelInfo
from initclient._transport.faults import Fault, Verdict


def read_models(raw: bytes, source: str) -> list[ModelInfo]:
    """The models of an answer, in its order.

    Raises:
        Fault: if it is no such answer.
    """
    response = service_pb2.ListModelsResponse()
    _parse(response, raw, source)
    return [
        ModelInfo(printable(one.name), printable(one.plan_digest), one.total_size, one.tensors)
        for one in response.models
    ]


def read_model(raw: bytes, model: Model, source: str) -> Plan:
    """The plan of an answer.

    Raises:
        Fault: if it is no such answer, or its plan has another digest than the server says, or
            than the model has.
        PlanError: if this version cannot make the plan.
    """
    response = service_pb2.GetModelResponse()
    _parse(response, raw, source)
    plan = plan_of(response.plan.seed, map(Item.of, response.plan.tensors))
    for whose, expected in (("the server", response.info.plan_digest), ("you", model.digest)):
        if expected is not None and expected != plan.digest:
            verb = "says" if whose == "the server" else "expect"
            raise Fault(
                IntegrityError(
                    f"{source} sent a plan of digest {plan.digest} for the model {model.name!r}, "
                    f"and {whose} {verb} {printable(expected, 80)}"
                ),
                Verdict.DIFFERS,
            )
    return plan


def _parse(response: Message, raw: bytes, source: str) -> None:
    try:
        response.ParseFromString(raw)
    except DecodeError as error:
        text = f"{source} sent bytes that are not a message of this service"
        raise Fault(IntegrityError(text), Verdict.AGAIN) from error
