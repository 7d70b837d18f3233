"""icj.verify: one wrong bit in any copy of any shard is found and named."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from initclient._machine import progress as _progress

from tests.jax import trees
from tests.jax.launching import run
from tests.server.processes import running


def test_one_flipped_bit_in_any_copy_is_found_on_up_to_eight_devices() -> None:
    with running() as server:
        (text,) = run(["-m", "tests.jax.verifying"], devices=8, SERVER=server.address)
    assert text.count("devices: ") == 16
    assert text.count("devices with a server") == 4


def test_all_processes_come_to_one_report(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    ranks = [["-m", "tests.jax.verifying", str(rank), "2", coordinator] for rank in range(2)]
    with running() as server:
        texts = run(*ranks, devices=2, SERVER=server.address, FOLDER=str(tmp_path))
    for rank, text in enumerate(texts):
        assert text.count(f"process {rank}: ") == 10, text


@pytest.fixture(scope="module")
def filled() -> tuple[Any, ic.Plan]:
    plan = trees.plan()
    return icj.init(trees.tree(), plan, "local"), plan


def report_of(tree: Any, plan: ic.Plan, **options: Any) -> dict[str, str]:
    """The kinds of the mismatches, by name."""
    with pytest.raises(ic.VerificationError) as caught:
        icj.verify(tree, plan, "local", **options)
    return {one.name: one.kind for one in caught.value.report.mismatches}


def test_a_report_has_what_fetch_and_files_have(filled: tuple[Any, ic.Plan]) -> None:
    tree, plan = filled
    report = icj.verify(tree, plan, "local")
    whole = ic.verify(ic.fetch(plan, target="local"), plan, target="local")
    assert report == whole
    assert str(report) == f"{len(plan.tensors)} tensors agree with plan {plan.digest}"


def test_the_message_names_leaf_and_place(filled: tuple[Any, ic.Plan]) -> None:
    tree, plan = filled
    values = np.array(tree["square"])
    values.view("u4")[3, 5] ^= 1 << 31
    with pytest.raises(ic.VerificationError) as caught:
        icj.verify({**tree, "square": jnp.asarray(values)}, plan, "local")
    line = str(caught.value).splitlines()[1]
    assert line.startswith("  square: has the fingerprint ")
    assert line.endswith("(1 of 2304 elements differ, the first at [3, 5])")


def test_leaves_of_numpy_are_compared_too(filled: tuple[Any, ic.Plan]) -> None:
    tree, plan = filled
    host = jax.tree.map(np.asarray, tree)
    assert icj.verify(host, plan, "local").ok
    host["square"] = host["square"] + np.float32(1)
    assert report_of(host, plan) == {"square": "values"}


def test_what_does_not_fit_is_named_with_its_kind(filled: tuple[Any, ic.Plan]) -> None:
    tree, plan = filled
    other = {
        **tree,
        "square": tree["square"][:4],
        "small": tree["small"].astype("float16"),
        "extra": jnp.zeros(3),
    }
    del other["sparse"]
    kinds = {"square": "shape", "sparse": "missing", "small": "dtype", "extra": "unexpected"}
    assert report_of(other, plan) == kinds
    # Of an element type that no plan has: an ignored leaf is not looked at.
    other["extra"] = jnp.zeros(3, "int4")
    left = icj.verify(other, plan, "local", partial=True, ignore=["s[qm]*", "extra"]).left_out
    assert left == ("small", "square", "extra", "sparse")


def test_a_plan_with_slices_is_compared_whole_and_with_any_seed(
    filled: tuple[Any, ic.Plan],
) -> None:
    tree, plan = filled
    assert icj.verify(tree, plan.shard({"square": slice(0, 4)}), "local").ok
    assert "square" in report_of(tree, plan, seed=8)


def test_names_of_a_plan_are_those_of_init() -> None:
    def named(name: str) -> str:
        return "model." + name.replace("/", ".")

    tree = {"dense": {"kernel": jax.ShapeDtypeStruct((4, 2), "float32")}}
    plan = icj.plan(tree, name=named)
    made = icj.init(tree, plan, "local", name=named)
    assert icj.verify(made, plan, "local", name=named).agreed == ("model.dense.kernel",)


def test_a_model_of_nnx_is_verified_by_its_state() -> None:
    graph, state = nnx.split(nnx.eval_shape(lambda: nnx.Linear(4, 3, rngs=nnx.Rngs(0))))
    plan = icj.plan(state, seed=7)
    model = nnx.merge(graph, icj.init(state, plan, "local"))
    assert icj.verify(nnx.state(model), plan, "local").agreed == ("bias", "kernel")
    model.bias[...] += 1
    assert report_of(nnx.state(model), plan) == {"bias": "values"}


def test_trees_without_values_are_refused(filled: tuple[Any, ic.Plan]) -> None:
    tree, plan = filled
    with pytest.raises(ValueError, match=r"'conv/bias' is ShapeDtypeStruct\(.*no values"):
        icj.verify(trees.tree(), plan, "local")
    gone = jnp.asarray(tree["square"]) + 0
    gone.delete()
    with pytest.raises(RuntimeError, match="deleted"):
        icj.verify({**tree, "square": gone}, plan, "local")
    with pytest.raises(RuntimeError, match=r"verify is called under .*outside jit"):
        jax.jit(lambda x: icj.verify(x, plan, "local").ok)(tree)


def test_progress_ends_at_the_end_also_where_copies_differ() -> None:
    seen: list[tuple[int, int]] = []
    tree = {"w": jnp.zeros((300, 400))}
    report_of(tree, ic.Plan({"w": ic.ones((300, 400))}), progress=lambda *each: seen.append(each))
    assert seen[-1] == (480_000, 480_000)


def test_progress_may_be_a_bar(
    filled: tuple[Any, ic.Plan],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree, plan = filled
    monkeypatch.setattr(_progress, "_LINES", 0.0)
    assert icj.verify(tree, plan, "local", progress=True).ok
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("verify: ") for line in lines)
    assert "(100 %)" in lines[-1]
    with pytest.raises(TypeError, match="progress is 'yes'; give True for a bar, or a func"):
        icj.verify(tree, plan, "local", progress="yes")
