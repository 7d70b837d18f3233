"""The public names, the accepted arguments, and the sources of weights."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys
from pathlib import Path

import initclient as ic
import numpy as np
import pytest
from initclient import _client, _fetch, aio
from initclient._inspect import descriptions as _describe
from initclient._source import retry as _retry
from initcore.plan import SCHEMES

PLAN = ic.Plan({"w": ic.normal((4, 3)), "b": ic.zeros((4,))}, seed=7)
NOBODY = "127.0.0.1:1"


def test_the_public_names_are_these() -> None:
    """A builder for each scheme, and these."""
    others = """
        AuthenticationError BackendError BusyError Changed CheckpointError Client
        Credentials DeadlineError Description Fingerprint InitserveError IntegrityError
        LimitError Local Mismatch MissingPackageError Model ModelInfo PartialFileWarning
        Plan PlanDiff PlanError PlanWarning Retry STREAM_VERSION ServerError Tensor
        TensorDescription TransportError UnavailableError Verification VerificationError
        Violation WrongPart __version__ calculate_gain describe diff dump_plan fetch
        fetch_file fingerprint get_plan list_models load_plan plan_from_safetensors plot
        rule verify with_pretrained
    """
    assert sorted(ic.__all__) == sorted([*SCHEMES, *others.split()])
    assert all(hasattr(ic, name) for name in ic.__all__)


def test_importing_it_loads_nothing_that_only_servers_or_terminals_need() -> None:
    script = "import sys, initclient; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"grpc", "grpc_status", "google.rpc", "rich", "yaml", "cupy"}


@pytest.mark.parametrize("module", [ic, _client, _fetch, _describe, _retry, aio])
def test_the_examples_of_the_documentation_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_the_tree_of_errors() -> None:
    assert issubclass(ic.TransportError, ic.InitserveError)
    assert issubclass(ic.UnavailableError, ic.TransportError)
    assert issubclass(ic.DeadlineError, (ic.TransportError, TimeoutError))
    assert issubclass(ic.ServerError, ic.InitserveError)
    assert issubclass(ic.IntegrityError, ic.InitserveError)
    assert issubclass(ic.PlanError, ValueError)
    assert issubclass(ic.AuthenticationError, ic.InitserveError)
    assert issubclass(ic.BusyError, ic.ServerError)
    assert issubclass(ic.LimitError, ic.ServerError)


@pytest.mark.parametrize("kind", [ic.ServerError, ic.BusyError, ic.LimitError])
def test_a_servers_error_survives_pickling(kind: type[ic.ServerError]) -> None:
    error = pickle.loads(pickle.dumps(kind("text", "INTERNAL", "WHY", {"limit": "3"})))
    assert type(error) is kind
    assert (str(error), error.code, error.reason) == ("text", "INTERNAL", "WHY")
    assert error.metadata == {"limit": "3"}


@pytest.mark.parametrize(
    "kind",
    [
        ic.AuthenticationError,
        ic.DeadlineError,
        ic.InitserveError,
        ic.IntegrityError,
        ic.TransportError,
        ic.UnavailableError,
    ],
)
def test_an_error_survives_pickling(kind: type[ic.InitserveError]) -> None:
    error = pickle.loads(pickle.dumps(kind("text")))
    assert (type(error), str(error)) == (kind, "text")


def test_a_plan_a_dict_and_a_plan_file_are_all_plans(tmp_path: Path) -> None:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    expected = ic.fetch(PLAN)["w"]
    for same in (tmp_path / "plan.yaml", str(tmp_path / "plan.yaml")):
        np.testing.assert_array_equal(ic.fetch(same)["w"], expected)
    np.testing.assert_array_equal(ic.fetch(dict(PLAN.tensors), seed=7)["w"], expected)


def test_seed_replaces_the_plans_and_is_zero_for_a_dict(source: str) -> None:
    tensors = dict(PLAN.tensors)
    zero = ic.fetch(PLAN.with_seed(0), target=source)["w"]
    np.testing.assert_array_equal(ic.fetch(PLAN, seed=0, target=source)["w"], zero)
    np.testing.assert_array_equal(ic.fetch(tensors, target=source)["w"], zero)
    assert not np.array_equal(ic.fetch(PLAN, target=source)["w"], zero)


def test_anything_else_is_refused_by_type() -> None:
    with pytest.raises(TypeError, match="give a Plan, a dict"):
        ic.fetch(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, NOBODY])
def test_a_wrong_plan_is_refused_before_anyone_is_asked(source: str | None) -> None:
    with pytest.raises(ic.PlanError) as caught:
        ic.fetch({"w": ic.normal((-1,))}, target=source)
    assert caught.value.violations[0].path == "tensors[0].shape"


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITSERVE_TARGET", NOBODY)
    once = ic.Retry(attempts=1)
    with pytest.raises(ic.UnavailableError, match=NOBODY):
        ic.fetch(PLAN, retry=once)
    with pytest.raises(ic.UnavailableError, match=NOBODY):
        ic.describe(PLAN, retry=once)


@pytest.mark.parametrize("here", ["", "local"])
def test_this_process_can_be_asked_for_whatever_the_environment_says(
    here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_TARGET", NOBODY)
    assert list(ic.fetch(PLAN, target=here)) == ["w", "b"]
    monkeypatch.setenv("INITSERVE_TARGET", here)
    assert list(ic.fetch(PLAN)) == ["w", "b"]


def test_the_environment_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITSERVE_BACKEND", "abacus")
    with pytest.raises(ic.PlanError, match="abacus"):
        ic.fetch(PLAN)
    assert list(ic.fetch(PLAN, backend="numpy")) == ["w", "b"]


def test_a_backend_together_with_a_server_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="chose its own"):
        ic.fetch(PLAN, target=target, backend="numpy")
    with pytest.raises(ValueError, match="chose its own"):
        ic.fetch_file(PLAN, tmp_path / "x", target=target, backend="numpy")


def test_a_web_address_is_refused_with_the_right_form() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        ic.fetch(PLAN, target="http://localhost:50051")


def test_what_is_unusual_becomes_a_python_warning(source: str, tmp_path: Path) -> None:
    empty = {"w": ic.normal((0, 3))}
    with pytest.warns(ic.PlanWarning, match="'w'") as seen:
        assert ic.fetch(empty, target=source)["w"].shape == (0, 3)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with pytest.warns(ic.PlanWarning, match="'w'"):
        ic.fetch_file(empty, tmp_path / "x", target=source)


def test_progress_counts_up_to_the_size_of_the_file(source: str, tmp_path: Path) -> None:
    plan = {"w": ic.normal((1000, 1000)), "b": ic.zeros((1000,))}
    size = ic.describe(plan).size
    for fetch in (
        lambda told: ic.fetch(plan, target=source, progress=told),
        lambda told: ic.fetch_file(plan, tmp_path / "x", target=source, progress=told),
    ):
        told: list[tuple[int, int]] = []
        fetch(lambda done, total, told=told: told.append((done, total)))
        assert told == sorted(told)
        assert told[-1] == (size, size)
