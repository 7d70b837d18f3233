"""verify of folders of Orbax."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from initclient._files import orbax as reading
from initclient.cli import main
from initclient.jax.orbax import PlanHandler


class Net(linen.Module):
    """Two layers, one in bfloat16, and a BatchNorm that has state beside its parameters."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Dense(8, param_dtype=jnp.bfloat16)(x)
        x = linen.BatchNorm(use_running_average=True)(x)
        return linen.Dense(3)(x)


SHAPES = jax.eval_shape(Net().init, jax.random.key(0), jnp.ones((2, 5)))
PLAN = icj.plan(SHAPES, seed=7)


def save(path: Path, tree: Any) -> Path:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


@pytest.fixture(scope="module")
def weights() -> Any:
    return icj.init(SHAPES, PLAN, target="local")


@pytest.fixture(scope="module")
def saved(weights: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "own", weights)


def test_a_tree_agrees(saved: Path, source: str) -> None:
    report = ic.verify(saved, PLAN, target=source)
    assert set(report.agreed) == set(PLAN)
    one = PLAN.select(["params/Dense_0/kernel"])
    assert ic.verify(
        str(saved), one, target=source, ignore=["batch_stats/*", "*_1/*", "*bias", "*scale"]
    ).ok


def test_a_step_of_a_manager_agrees_and_a_folder_of_steps_names_them(
    weights: Any, tmp_path: Path
) -> None:
    with ocp.CheckpointManager(tmp_path) as manager:
        for step in (0, 5):
            manager.save(step, args=ocp.args.StandardSave(weights))
        manager.wait_until_finished()
    assert ic.verify(tmp_path / "0", PLAN).ok
    assert ic.verify(tmp_path / "5" / "default", PLAN).ok
    with pytest.raises(ValueError, match=r"holds checkpoints of steps 0, 5; give one: .*/0$"):
        ic.verify(tmp_path, PLAN)


def test_weights_beside_folders_of_orbax_are_what_is_compared(weights: Any, tmp_path: Path) -> None:
    plan = PLAN.select(["params/Dense_0/kernel"])
    file = ic.fetch_file(plan, tmp_path / "model.safetensors", target="local")
    save(tmp_path / "optimizer", weights)
    assert ic.verify(tmp_path, plan).agreed == tuple(plan)
    save(tmp_path / "0" / "default", weights)
    assert ic.verify(tmp_path, plan).agreed == tuple(plan)
    file.unlink()
    with pytest.raises(ic.VerificationError):
        ic.verify(tmp_path, plan)


def test_a_step_of_several_items_names_them(weights: Any, tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path) as manager:
        own = ocp.args.StandardSave(weights)
        manager.save(0, args=ocp.args.Composite(model=own, ema=own))
        manager.wait_until_finished()
    with pytest.raises(ValueError, match=r"holds several items, ema, model; give the path of one"):
        ic.verify(tmp_path / "0", PLAN)
    assert ic.verify(tmp_path / "0" / "model", PLAN).ok


def test_a_train_state_is_verified_below_its_prefix(weights: Any, tmp_path: Path) -> None:
    params = weights["params"]
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-3))
    plan = icj.plan(jax.eval_shape(lambda: params), seed=7)
    same = icj.init(params, plan, target="local")
    save(tmp_path / "same", state.replace(params=same))
    assert ic.verify(tmp_path / "same", plan, prefix="params").ok
    assert ic.verify(tmp_path / "same", plan, prefix="params/").ok
    with pytest.raises(ic.VerificationError, match="give prefix='params'"):
        ic.verify(tmp_path / "same", plan)
    with pytest.raises(ValueError, match=r"no name begins with the prefix 'net'"):
        ic.verify(tmp_path / "same", plan, prefix="net")


def test_boxes_of_flax_have_the_names_of_the_plan(tmp_path: Path) -> None:
    def make() -> nnx.Module:
        return nnx.Sequential(
            nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0))
        )

    state = nnx.state(nnx.eval_shape(make))
    plan = icj.plan(state, seed=7)
    save(tmp_path / "nnx", icj.init(state, plan, target="local"))
    assert set(ic.verify(tmp_path / "nnx", plan).agreed) == set(plan)
    with pytest.raises(ic.VerificationError, match="layers/0/kernel: has the fingerprint"):
        ic.verify(tmp_path / "nnx", plan, seed=8)


def flipped(weights: Any) -> Any:
    """The tree with one bit of one element changed."""
    kernel = np.array(weights["params"]["Dense_0"]["kernel"])
    kernel.view(np.uint16)[4, 6] ^= 1
    dense = {**weights["params"]["Dense_0"], "kernel": jnp.asarray(kernel)}
    return {**weights, "params": {**weights["params"], "Dense_0": dense}}


def test_one_other_bit_is_found_and_located(weights: Any, tmp_path: Path) -> None:
    save(tmp_path / "flipped", flipped(weights))
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(tmp_path / "flipped", PLAN, target="local")
    (wrong,) = caught.value.report.mismatches
    assert (wrong.name, wrong.kind) == ("params/Dense_0/kernel", "values")
    assert "1 of 40 elements differ, the first at [4, 6]" in wrong.message


def test_another_seed_and_other_leaves_are_named(saved: Path) -> None:
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(saved, PLAN, target="local", seed=8)
    random = {"params/Dense_0/kernel", "params/Dense_1/kernel"}
    assert {one.name for one in caught.value.report.mismatches} == random

    without = PLAN.select(name for name in PLAN if name != "params/Dense_1/bias")
    other = ic.Plan({**without.tensors, "extra": ic.zeros((2,))}, seed=7)
    with pytest.raises(ic.VerificationError) as caught:
        ic.verify(saved, other, target="local")
    kinds = {one.name: one.kind for one in caught.value.report.mismatches}
    assert kinds == {"extra": "missing", "params/Dense_1/bias": "unexpected"}
    assert ic.verify(saved, other, partial=True, ignore="*/Dense_1/bias").ok


def test_many_arrays_are_read_a_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {f"l{i}": jax.ShapeDtypeStruct((16, 4), "float32") for i in range(20)}
    plan = icj.plan(shapes, seed=7, rules=[icj.rule("*", ic.normal)])
    save(tmp_path / "many", icj.init(shapes, plan, target="local"))
    calls = []
    restored = reading._Reader._restored
    monkeypatch.setattr(reading, "_GROUP_BYTES", 1024)
    monkeypatch.setattr(
        reading._Reader, "_restored", lambda self, some: calls.append(some) or restored(self, some)
    )
    assert ic.verify(tmp_path / "many", plan).ok
    assert [len(some) for some in calls] == [4] * 5
    backwards = plan.select(reversed(list(plan)))
    assert ic.verify(tmp_path / "many", backwards).ok


def test_numbers_of_python_are_no_tensors(tmp_path: Path) -> None:
    save(tmp_path / "mixed", {"w": np.zeros((3,), np.float32), "step": 3, "none": None})
    assert ic.verify(tmp_path / "mixed", {"w": ic.zeros((3,))}).agreed == ("w",)


def test_a_stored_plan_has_no_values(tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path, handler_registry=PlanHandler().registry()) as manager:
        manager.save(0, args=ocp.args.StandardSave(PLAN))
        manager.wait_until_finished()
    with pytest.raises(ValueError, match=r"holds a plan, as .*PlanHandler stores it, and no"):
        ic.verify(tmp_path / "0", PLAN)


def test_what_is_no_whole_checkpoint_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "_METADATA").write_text("{")
    with pytest.raises(ValueError, match="is not a checkpoint of Orbax"):
        ic.verify(tmp_path, PLAN)
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    for file in (broken / "d").iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    for file in broken.glob("ocdbt.process_*/d/*"):
        file.write_bytes(file.read_bytes()[:-20])
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    # In a process of its own: after the error, reads of Orbax end late, on a loop that is closed.
    command = [sys.executable, "-m", "initclient", "verify", str(broken), tmp_path / "plan.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"broken (cannot be read|is not a checkpoint)", done.stderr)


def test_without_orbax_the_error_has_the_command(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ic.MissingPackageError, match=r"pip install 'initserve\[orbax\]'"):
        ic.verify(saved, PLAN)


def test_the_command_takes_them(
    saved: Path, weights: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ic.dump_plan(PLAN, tmp_path / "plan.yaml")
    plan = str(tmp_path / "plan.yaml")
    assert main(["verify", str(saved), plan]) == 0
    assert "8 tensors agree" in capsys.readouterr().out
    assert main(["verify", str(save(tmp_path / "flipped", flipped(weights))), plan]) == 1
    assert "params/Dense_0/kernel" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "flipped"), plan, "--ignore", "*Dense_0*"]) == 0
    (tmp_path / "steps" / "0" / "default").mkdir(parents=True)
    (tmp_path / "steps" / "0" / "default" / "_METADATA").write_text("{}")
    assert main(["verify", str(tmp_path / "steps"), plan]) == 2
    assert "holds checkpoints of steps 0" in capsys.readouterr().err
