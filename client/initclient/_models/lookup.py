"""Models of servers by name: looks up the plan before a call, and lists the names."""

from __future__ import annotations

from initcore import Plan, layout

from initclient._models.calls import call_get_model
from initclient._plan import Model, PlanLike
from initclient._source import Request, Source, make_request


def settled(
    plan: PlanLike, source: Source, seed: int | None = None, *, processes: int = 1
) -> PlanLike:
    """The plan, looked up at the server if it is a model.

    Args:
        plan: a plan in any form.
        source: the source of its values.
        seed: the seed of a model's values, as `Model.seed`.
        processes: how many processes use the plan together.

    Raises:
        ValueError: for a model without a server, with another seed than `seed`, or, in one of
            several processes, without a digest: the model may change between the calls of the
            processes.
        InitserveError: if no server has it, with its digest, or its seed is fixed.
    """
    if not isinstance(plan, Model):
        return plan
    request = _request(source, f"the model {plan.name!r}")
    plan = plan.with_seed(seed)
    found = call_get_model(request, plan)
    if processes > 1 and plan.digest is None:
        chosen = "" if plan.seed is None else f", seed={plan.seed}"
        raise ValueError(
            f"the model {plan.name!r} has no digest, and the {processes} processes of this job "
            "could get different plans if the model changes between their calls; give all of them "
            f"one digest, now ic.Model({plan.name!r}, digest={found.digest!r}{chosen})"
        )
    return found


def request_for(plan: PlanLike, seed: int | None, source: Source) -> Request:
    """The request for the values of a plan in any form; a model is looked up first.

    Args:
        plan: the plan as the user gave it.
        seed: the seed that replaces the plan's; of a model, as `Model.seed`.
        source: the source of its values.

    Raises:
        PlanError, CheckpointError: as `make_request`.
        ValueError, InitserveError: as `settled`.
    """
    return named(make_request(settled(plan, source, seed), seed, source), plan, seed)


def named(request: Request, plan: PlanLike, seed: int | None) -> Request:
    """The request, which names the model instead of sending its plan, if the plan is one.

    Args:
        request: the request for the plan as `settled` gave it.
        plan: the plan as the user gave it.
        seed: the seed of the values; None for the model's, or the plan's own.
    """
    if not isinstance(plan, Model):
        return request
    return request.naming(plan.name, plan.with_seed(seed).seed)


def catalog_request(source: Source) -> Request:
    """A request to a service that concerns no plan.

    Raises:
        ValueError: if the source is this process.
    """
    return _request(source, "models")


def _request(source: Source, what: str) -> Request:
    request = Request(layout(Plan({})), source)
    if request.service is None:
        raise ValueError(
            f"no server is named, and only a server has {what} (initserver --models); give its "
            "address (target=, --target or INITSERVE_TARGET), or the path of a plan file"
        )
    return request
