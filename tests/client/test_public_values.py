"""Every public value, error and warning can be copied, sent to another process and compared."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import initcore
import initserver
import numpy as np
import pytest
from initclient import recipes
from initclient._checking import WrongPart
from initcore.plan import SCHEMES
from initcore.plan.schemes import Scheme
from initserver.net.listening import ListenError
from torch import nn

MODULES = (
    *("initclient", "initclient.aio", "initclient.jax", "initclient.recipes", "initclient.torch"),
    *("initcore", "initserver"),
)

PLAN = ic.Plan({"w": ic.normal((4, 6)), "b": ic.zeros((4,))}, 3)
OTHER = ic.Plan({"w": ic.normal((4, 6), std=0.5), "b": ic.zeros((4,))}, 3)
ARRAYS = {"w": np.ones((4, 6), np.float32), "b": np.zeros(4, np.float32)}


def report() -> ic.Verification:
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(ARRAYS, PLAN, target="local")
    assert caught.value.report.mismatches[0].parts
    return caught.value.report


def init_report() -> ict.InitReport:
    model = nn.Linear(2, 2)
    return ict.init_(model, ict.plan(model), "local")


def flow() -> ict.Flow:
    import torch

    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    return next(iter(ict.flow(model, ict.plan(model), torch.ones(3, 2)).values()))


VIOLATION = ic.Violation("w", "std", "is wrong", 3, line=7)

VALUES: dict[str, Callable[[], Any]] = {
    "Changed": lambda: ic.diff(PLAN, OTHER).changed[0],
    "Client": lambda: ic.Client("127.0.0.1:1", retry=ic.Retry(attempts=1)),
    "Credentials": lambda: ic.Credentials(tls=True, token="secret"),
    "Description": lambda: ic.describe(PLAN),
    "Engine": lambda: ict.Engine(1, 2),
    "Entry": lambda: initcore.layout(PLAN).entries[0],
    "Fingerprint": lambda: ic.Fingerprint((1, 2)),
    "Flow": flow,
    "InitReport": init_report,
    "LayerFlow": lambda: flow().layers[0],
    "Layout": lambda: initcore.layout(PLAN),
    "Limits": initserver.Limits,
    "Local": lambda: ic.Local(backend="numpy"),
    "Model": lambda: ic.Model("acme/llama-8b", digest="0" * 64),
    "ModelInfo": lambda: ic.ModelInfo("acme/llama-8b", "0" * 64, 8, 2),
    "Mismatch": lambda: report().mismatches[0],
    "Plan": lambda: PLAN,
    "PlanDiff": lambda: ic.diff(PLAN, OTHER),
    "Recipe": lambda: recipes.load("llama"),
    "Retry": ic.Retry,
    "ServerConfig": initserver.ServerConfig,
    "Tensor": lambda: PLAN["w"],
    "TensorDescription": lambda: ic.describe(PLAN).tensors[0],
    "Verification": report,
    "Violation": lambda: VIOLATION,
    "WrongPart": lambda: report().mismatches[0].parts[0],
    # Of several modules.
    "initclient.torch.Rule": lambda: ict.rule(nn.Linear, ic.normal, std=0.5),
    "initclient.jax.Rule": lambda: icj.rule("*", ic.normal, std=0.5),
    "initclient.recipes.Rule": lambda: recipes.load("llama").rules[0],
}
MORE: dict[str, Callable[[], Any]] = {
    "ic.rule": lambda: ic.rule("*", ic.normal, std=0.5),
    **{f"scheme {name}": lambda name=name: SCHEMES[name] for name in SCHEMES},
}
# They point into the memory of a model in this process.
LIVE = {"Slot", "Piece"}
ERRORS: dict[str, Callable[[], BaseException]] = {
    "AuthenticationError": lambda: ic.AuthenticationError("no token"),
    "BackendError": lambda: ic.BackendError("no GPU"),
    "BusyError": lambda: ic.BusyError("busy", "RESOURCE_EXHAUSTED", "BUSY", {"a": "1"}),
    "CheckpointError": lambda: ic.CheckpointError("gone"),
    "DeadlineError": lambda: ic.DeadlineError("late"),
    "InitserveError": lambda: ic.InitserveError("bad"),
    "IntegrityError": lambda: ic.IntegrityError("bad bytes"),
    "LimitError": lambda: ic.LimitError("large", "INVALID_ARGUMENT", "MAX", {"limit": "3"}),
    "ListenError": lambda: ListenError("in use"),
    "MissingPackageError": lambda: ic.MissingPackageError("CuPy", "cuda13", "The cupy backend"),
    "PartialFileWarning": lambda: ic.PartialFileWarning("old"),
    "PlanError": lambda: ic.PlanError([VIOLATION]),
    "PlanWarning": lambda: ic.PlanWarning("odd"),
    "ServerError": lambda: ic.ServerError("bad", "INTERNAL"),
    "TransportError": lambda: ic.TransportError("cut"),
    "UnavailableError": lambda: ic.UnavailableError("nobody"),
    "VerificationError": lambda: ic.VerificationError(report()),
}


def public() -> Iterator[tuple[str, type]]:
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute in module.__all__:
            kind = getattr(module, attribute)
            if isinstance(kind, type) and attribute in vars(module):
                yield name, kind


def test_every_public_value_and_error_is_tested() -> None:
    values, errors = set(), set()
    for module, kind in public():
        if issubclass(kind, BaseException):
            errors.add(kind.__name__)
        elif dataclasses.is_dataclass(kind):
            both = f"{module}.{kind.__name__}"
            values.add(both if both in VALUES else kind.__name__)
    assert values == set(VALUES) | LIVE
    assert errors == set(ERRORS)


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda value: pickle.loads(pickle.dumps(value)),
    lambda value: pickle.loads(pickle.dumps(value, protocol=2)),
]


@pytest.mark.parametrize("name", [*VALUES, *MORE])
def test_a_value_can_be_copied_sent_hashed_and_made_plain(name: str) -> None:
    value = (VALUES | MORE)[name]()
    assert {value: 1}[value] == 1
    for copied in COPIES:
        other = copied(value)
        assert type(other) is type(value)
        assert other == value
        assert hash(other) == hash(value)
        assert repr(other) == repr(value)
    plain = dataclasses.asdict(value)
    assert list(plain) == [field.name for field in dataclasses.fields(value)]
    if name != "Client":  # its arguments are not its fields
        assert dataclasses.replace(value) == value


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_reaches_another_process_as_it_is(name: str) -> None:
    error = ERRORS[name]()
    error.add_note("a note")
    for copied in COPIES:
        other = copied(error)
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert {**vars(other), "__notes__": 0} == {**vars(error), "__notes__": 0}


def test_the_fields_of_values_do_not_change() -> None:
    mappings: list[Any] = [
        ic.diff(PLAN, OTHER).changed[0].fields,
        report().fingerprints,
        ict.rule("*", ic.normal, std=0.5).arguments,
        recipes.load("gpt2").arguments,
        recipes.load("gpt2").models,
        recipes.load("gpt2").rules[0].arguments,
        SCHEMES["normal"].arguments,
    ]
    for mapping in mappings:
        for other in (mapping, copy.deepcopy(mapping), pickle.loads(pickle.dumps(mapping))):
            with pytest.raises(TypeError, match="do not change"):
                other["x"] = 1
            with pytest.raises(TypeError, match="do not change"):
                other.update(x=1)
            assert {**other} == dict(mapping)
    assert isinstance(SCHEMES["normal"], Scheme)
    assert WrongPart is ic.WrongPart
