"""One plan of all processes, each of which has some of the pipeline stages or experts."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from initcore import Plan

from initclient._exceptions import InitserveError, PlanWarning
from initclient._plan import check_plan, joined, kept
from initclient.torch._checking.processes import PATIENCE, Processes

_ALONE = "join=True is for calls that every process of the group makes"


@dataclass(frozen=True)
class Part:
    """The plan of one process's part of the model.

    Attributes:
        plan: the plan.
        missing: what this part has nothing for, such as a rule that matches none of its names.
    """

    plan: Plan
    missing: tuple[str, ...] = ()


def together(
    processes: Processes, error: Exception | None, part: Part | None
) -> tuple[Part, list[str]]:
    """The plan of all parts, and warnings about them. A collective call.

    Args:
        processes: the processes that hold the model.
        error: the error of this process, if it has one.
        part: its part, if it has no error.

    Returns:
        The joined part, which misses what all parts miss, and warnings as sentences. All the same
        on every process.

    Raises:
        Exception: the process's own error.
        InitserveError: if another process has an error, or does not take part.
        PlanError: on every process, if two parts have one tensor with different values.
    """
    failed = None if error is None else f"{type(error).__name__}: {error}"
    sent = pickle.dumps((failed, part))
    try:
        digests = processes.gather_bytes(hashlib.sha256(sent).digest(), _say_waiting)
        # Of ranks with one part, such as those of tensor parallelism, the first one sends it.
        senders = {digest: place for place, digest in reversed([*enumerate(digests)])}
        is_sender = processes.is_alone or processes.rank in senders.values()
        every = processes.gather(sent if is_sender else None)
    except RuntimeError as failure:
        if error is not None:
            raise error from failure
        message = f"not every process of the group has called plan too: {failure}; {_ALONE}"
        raise InitserveError(message) from failure
    if error is not None:
        raise error
    parts: dict[str, Part] = {}
    for rank, one in zip(processes.ranks, every, strict=True):
        if one is None:
            continue
        failed, found = pickle.loads(one)
        if failed is not None:
            raise InitserveError(f"rank {rank} has no plan of its part: {failed}")
        parts[f"rank {rank}"] = found
    whole = joined({name: one.plan for name, one in parts.items()})
    check_plan(whole)
    first, *others = [one.missing for one in parts.values()]
    missing = tuple(key for key in first if all(key in other for other in others))
    return Part(whole, missing), _doubts({name: one.plan for name, one in parts.items()})


def _doubts(parts: Mapping[str, Plan]) -> list[str]:
    """A sentence if stages seem to number their layers anew, so that two layers are one."""
    # The numbered names of all parts that have the same other names: there are few such kinds.
    kinds: dict[frozenset[str], dict[str, str]] = {}
    for part, plan in parts.items():
        names = {*plan, *kept(plan)}
        numbered = {one for one in names if any(map(str.isdecimal, one.split(".")))}
        owners = kinds.setdefault(frozenset(names - numbered), {})
        for name in numbered:
            owners.setdefault(name, part)
    for others, owners in kinds.items():
        for their_others, theirs in kinds.items():
            shared = owners.keys() & theirs.keys()
            if shared and (own := sorted(others - their_others)):
                name = min(shared)
                first, second = owners[name], theirs[name]
                return [
                    f"{first} and {second} are different parts of the model, since only {first} "
                    f"has {own[0]}, and both have {name}, which is one tensor in the plan; if "
                    "these are two layers, give each stage the layers' numbers in the whole model"
                ]
    return []


def _say_waiting() -> None:
    message = (
        f"plan has waited {PATIENCE:g} s for the other processes of the group, which have to call "
        f"it too, and goes on waiting; {_ALONE}"
    )
    warnings.warn(message, PlanWarning, stacklevel=2)
