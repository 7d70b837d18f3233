"""list_models and get_plan: the models that a server has by name."""

from __future__ import annotations

from initcore import Plan

from initclient._models.calls import call_list_models
from initclient._models.lookup import catalog_request, settled
from initclient._plan import Model, ModelInfo, as_plan
from initclient._source import Credentials, Retry, Target, source_of


def list_models(
    *,
    target: Target | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
) -> list[ModelInfo]:
    """The models of a server, in the order of their names.

    Args:
        target: the servers, as for `fetch`; the first that answers.
        timeout: seconds in which a server must answer; None means no limit.
        retry: when to call again after a failure and when to give up.
        credentials: certificates and tokens.

    Raises:
        ValueError: without a server.
        InitserveError: if no server answers.
    """
    source = source_of(target, timeout=timeout, retry=retry, credentials=credentials)
    return call_list_models(catalog_request(source))


def get_plan(
    model: Model | str,
    *,
    target: Target | None = None,
    timeout: float | None = None,
    retry: Retry | None = None,
    credentials: Credentials | None = None,
) -> Plan:
    """The plan of a model of a server.

    Args:
        model: the model, or its name.
        target: the servers, as for `fetch`.
        timeout: seconds in which a server must answer; None means no limit.
        retry: when to call again after a failure and when to give up.
        credentials: certificates and tokens.

    Raises:
        ValueError: without a server.
        InitserveError: if no server has the model, with its digest.
        PlanError: if this version cannot make the plan.
    """
    wanted = Model(model) if isinstance(model, str) else model
    source = source_of(target, timeout=timeout, retry=retry, credentials=credentials)
    return as_plan(settled(wanted, source))
