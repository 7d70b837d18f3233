"""A model of Keras on one backend: its plan, its weights, and what is refused.

    python -m tests.launchers.keras_models torch

Run by tests/launchers/test_keras.py; Keras has one backend in a process. Prints a line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = sys.argv[1]

import initclient as ic
import keras
import numpy as np
from keras import layers


def model() -> Any:
    """A model with a model within, running averages, and the state of a generator."""
    inner = keras.Sequential(
        [layers.Dense(5, name="fc"), layers.LayerNormalization(name="norm")], name="inner"
    )
    inputs = keras.Input((8,))
    values = inner(layers.Dense(6, name="in")(inputs))
    values = layers.BatchNormalization(name="averages")(values)
    return keras.Model(inputs, layers.Dropout(0.1, name="drop")(values), name="outer")


def refusal(act: Callable[[], object]) -> str:
    try:
        act()
    except ic.PlanError as error:
        return str(error)
    return ""


def on_torch() -> dict[str, Any]:
    import initclient.torch as ict
    import torch
    from torch import nn

    rules = [ict.rule("*kernel", ic.normal, std=0.02), ict.rule("*gamma", ic.ones)]
    rules += [ict.rule("*moving_variance", ic.ones), ict.rule("*_state", ict.keep)]
    rules += [ict.rule("*", ic.zeros)]
    net = model()
    plan = ict.plan(net, rules, seed=7)
    report = ict.init_(net, plan)
    verified = ict.verify(net, plan).agreed
    with torch.no_grad():
        net.get_layer("in").kernel.value[2, 3] += 1
    try:
        ict.verify(net, plan)
    except ic.VerificationError as error:
        wrong = str(error)
    ict.init_(net, plan)
    within = nn.ModuleDict({"left": net, "right": nn.Linear(2, 2)})
    return {
        "net": net,
        "filled": report.filled,
        "agreed": verified,
        "kept": report.kept,
        "wrong": wrong,
        "within": list(ict.plan(within, [*rules[:-1], ict.rule("*", ic.zeros)])),
        "uncovered": refusal(lambda: ict.plan(net, rules[:-2])),
        "unbuilt": refusal(lambda: ict.plan(keras.Sequential([layers.Dense(3)]))),
    }


def on_jax() -> dict[str, Any]:
    import initclient.jax as icj

    rules = [icj.rule("*kernel", ic.normal, std=0.02), icj.rule("*gamma", ic.ones)]
    rules += [icj.rule("*moving_variance", ic.ones), icj.rule("*", ic.zeros)]
    net = model()
    plan = icj.plan(net.weights, rules, seed=7)
    arrays = icj.init(net.weights, plan)
    for variable, array in zip(net.weights, arrays, strict=True):
        variable.assign(array)
    verified = icj.verify(net.weights, plan).agreed
    kernel = net.get_layer("in").kernel
    kernel.assign(kernel.value.at[2, 3].add(1))
    try:
        icj.verify(net.weights, plan)
    except ic.VerificationError as error:
        wrong = str(error)
    for variable, array in zip(net.weights, arrays, strict=True):
        variable.assign(array)
    return {
        "net": net,
        "filled": list(plan),
        "agreed": verified,
        "wrong": wrong,
        "model": refusal(lambda: icj.plan(net, rules)),
        "uncovered": refusal(lambda: icj.plan(net.variables, rules[:-1])),
    }


def main() -> None:
    found = on_torch() if keras.backend.backend() == "torch" else on_jax()
    digest = hashlib.sha256()
    for variable in sorted(found.pop("net").weights, key=lambda one: str(one.path)):
        values = keras.ops.convert_to_numpy(variable.value)
        digest.update(variable.path.encode() + np.ascontiguousarray(values).tobytes())
    print(json.dumps(found | {"hash": digest.hexdigest()}))


if __name__ == "__main__":
    main()
