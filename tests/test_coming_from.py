"""The code of docs/coming-from.md runs, section by section, with the real libraries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.jax as icj
import initclient.torch as ict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from torch import nn

from tests import digests

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "coming-from.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
CODE = {
    title: "".join(re.findall(r"^```python\n(.*?)^```", text, re.S | re.M))
    for title, text in SECTIONS.items()
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)


class Model(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 3, rngs=rngs)


JAX = ("Flax", "Haiku", "Equinox", "A seed checkpoint of Orbax")
"""Sections whose code takes a model of Flax and a batch as given."""


class LightningModule(nn.Module):
    """Lightning's own class is a module of torch; it calls the hook, more than once."""


def test_the_code_of_each_section_fills_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INITSERVE_TARGET", "local")
    plan = ict.record(Net).plan(seed=7)
    ic.dump_plan(plan, "plan.yaml")
    notes = digests.Notes()
    for section, code in CODE.items():
        if not code:
            continue
        names: dict[str, Any] = {
            digests.NOTE: notes.note,
            **{"ic": ic, "ict": ict, "icj": icj, "torch": torch, "nn": nn, "jax": jax, "nnx": nnx},
            **{"Net": Net, "model": Net(), "plan": plan, "LightningModule": LightningModule},
        }
        if section in JAX:
            names |= {"model": linen.Dense(3), "batch": jnp.zeros((1, 4)), "Model": Model}
            names["folder"] = str(tmp_path / "orbax")
        exec(notes.compile(code, f"docs/coming-from.md, {section}"), names)
        RESULTS.get(section, check_model)(names, plan)
    digests.check("docs/coming-from.md", notes.found)


def check_model(names: dict[str, Any], plan: ic.Plan) -> None:
    """The model has the values of the plan that the section made."""
    assert ict.verify(names["model"], names["plan"], target="local").agreed


def check_flax(names: dict[str, Any], plan: ic.Plan) -> None:
    wanted = ic.fetch({"params/kernel": ic.lecun_normal((4, 3), layout="jax")}, seed=7)
    assert np.array_equal(names["params"]["params"]["kernel"], wanted["params/kernel"])
    assert names["layers"].linear.kernel[...].shape == (4, 3)


def check_haiku(names: dict[str, Any], plan: ic.Plan) -> None:
    assert icj.verify(names["params"], names["recording"].plan(seed=7), target="local").ok
    assert names["net"].apply(names["params"], None, names["batch"]).shape == (1, 3)


def check_equinox(names: dict[str, Any], plan: ic.Plan) -> None:
    assert icj.verify(names["mlp"], names["recording"].plan(seed=7), target="local").ok
    assert names["mlp"](jnp.zeros(4)).shape == (3,)


def check_orbax(names: dict[str, Any], plan: ic.Plan) -> None:
    assert icj.verify(names["params"], names["plan"], target="local").ok


def check_lightning(names: dict[str, Any], plan: ic.Plan) -> None:
    module = names["Module"]()
    module.configure_model()
    net = module.net
    module.configure_model()
    assert module.net is net
    assert ict.verify(net, plan, target="local").agreed


def check_transformers(names: dict[str, Any], plan: ic.Plan) -> None:
    own = names["recording"].plan(seed=7)
    assert ict.verify(names["model"], own, target="local").agreed


def check_accelerate(names: dict[str, Any], plan: ic.Plan) -> None:
    assert not names["model"].fc.bias.any()
    assert names["model"].fc.weight.any()


# The last blocks of these sections fill something else than `model` with `plan`.
RESULTS: dict[str, Callable[[dict[str, Any], ic.Plan], None]] = {
    "Flax": check_flax,
    "Haiku": check_haiku,
    "Equinox": check_equinox,
    "A seed checkpoint of Orbax": check_orbax,
    "Lightning": check_lightning,
    "transformers": check_transformers,
    "Accelerate": check_accelerate,
    "An initialization function of your own": lambda names, plan: None,
}


def test_sections_without_code_lead_to_pages_whose_code_runs_elsewhere() -> None:
    for section in ("torchtitan", "Megatron-Core", "DeepSpeed", "MaxText", "Levanter"):
        assert not CODE[section]
        assert re.search(r"\]\((torch|launchers|jax)\.md", SECTIONS[section])


def test_each_habit_of_the_table_has_its_section() -> None:
    linked = re.findall(r"^\| .* \| \[.*?\]\(#(.*?)\) \|$", PAGE, re.M)
    titles = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS]
    assert linked == titles
