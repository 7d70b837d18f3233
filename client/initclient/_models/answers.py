"""Reads what servers say of models: checks plans against their digests."""

from __future__ import annotations

from initcore import Plan
from initcore.show import printable
from initcore.wire import Item, plan_of
from initserve.v1 import service_pb2

from initclient._exceptions import IntegrityError
from initclient._plan import KNOWS_NO_SEEDS, Model, ModelInfo

# Models of an answer: ten times as many as a server takes.
_MOST_MODELS = 100_000


def read_models(response: service_pb2.ListModelsResponse, source: str) -> list[ModelInfo]:
    """The models of an answer, in its order.

    Args:
        response: the answer.
        source: the server's address, for errors.

    Raises:
        IntegrityError: for more than any server has.
    """
    if len(response.models) > _MOST_MODELS:
        raise IntegrityError(
            f"{source} lists {len(response.models):,} models; this client takes at most "
            f"{_MOST_MODELS:,}"
        )
    return [
        ModelInfo(printable(one.name), printable(one.plan_digest), one.total_size, one.tensors)
        for one in response.models
    ]


def read_model(response: service_pb2.GetModelResponse, model: Model, source: str) -> Plan:
    """The plan of an answer.

    Args:
        response: the answer.
        model: the model that was asked for.
        source: the server's address, for errors.

    Raises:
        IntegrityError: if the plan has another digest than the server says, or than the model,
            or another seed.
        PlanError: if this version cannot make the plan.
    """
    sent = response.plan
    if model.seed not in (None, sent.seed):
        raise IntegrityError(
            f"{source} sent the plan of the model {model.name!r} with the seed {sent.seed}, and "
            f"the seed {model.seed} was asked for: {KNOWS_NO_SEEDS}"
        )
    plan = plan_of(sent.seed, map(Item.of, sent.tensors), provenance=dict(sent.provenance))
    for who, expected in (
        ("the server says", response.info.plan_digest),
        ("you expect", model.digest),
    ):
        if expected is not None and expected != plan.digest:
            raise IntegrityError(
                f"{source} sent a plan of digest {plan.digest} for the model {model.name!r}, and "
                f"{who} {printable(expected, 80)}"
            )
    return plan
