"""Records every model type of transformers, and compares small ones with the plain model.

    python tests/exhaustive/recorded_models.py coverage [TYPE ...]
    python tests/exhaustive/recorded_models.py replay [TYPE ...]

`coverage` builds each type from its default configuration on the meta device and counts the
parameters that a plan has, and those that are refused, with the reason. `replay` takes types of
at most 100 million parameters with two layers: the recorded operations, over the draws of torch's
generator at a seed, must give the bits of the plain model at that seed; at another seed, what is
drawn must differ. Each type runs in a process of its own, with a limit on time, so that no type
stops the others. The lines are JSON; a summary follows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import Counter
from typing import Any

SECONDS = 300
MOST_PARAMETERS = 100_000_000
LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
)


def types() -> list[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(CONFIG_MAPPING_NAMES)


def model_class(config: Any) -> Any:
    """The class that trains a type of model: with a head if there is one."""
    from transformers.models.auto import modeling_auto as auto

    for name in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "MASKED_LM", "IMAGE_CLASSIFICATION", ""):
        mapping = getattr(auto, f"MODEL_FOR_{name}_MAPPING" if name else "MODEL_MAPPING")
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple | list) else found
    return named_by_module(config)


def named_by_module(config: Any) -> Any:
    """The last class of the config's own module that takes such a config."""
    import importlib

    import transformers

    name = type(config).__module__.replace(".configuration_", ".modeling_")
    module = importlib.import_module(name)
    for found in reversed(list(vars(module).values())):
        is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
        if is_model and found.config_class is type(config) and "PreTrained" not in found.__name__:
            return found
    raise LookupError("no class of its module takes this config")


def coverage(kind: str) -> dict[str, Any]:
    import initclient.torch as ict
    from initclient.torch._model import members
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind)
    made = model_class(config)
    recording = ict.record(made, config)
    row: dict[str, Any] = {"type": kind, "class": made.__name__, "parameters": 0, "in_plan": 0}
    row |= {"notes": list(recording.notes), "refused": {}, "buffers": 0, "buffers_left": {}}
    seen = set()
    for member in members(recording.model):
        if id(member.tensor) in seen:
            continue
        seen.add(id(member.tensor))
        finding = recording._found[member.name]
        where = "buffers" if member.is_buffer else "parameters"
        row[where] += 1
        if not finding.reason:
            row["in_plan"] += not member.is_buffer
        elif member.is_buffer:
            row["buffers_left"][member.name] = finding.reason
        else:
            text = f"{finding.reason} | {finding.made} | {finding.source}"
            row["refused"][member.name] = text
    if not row["refused"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row["digest"] = recording.plan(seed=1).digest
    return row


def replay(kind: str) -> dict[str, Any]:
    import torch
    from initclient.torch._model import members
    from initclient.torch._record import replay as replayed
    from initclient.torch._record.building import build
    from initclient.torch._trace import NoValueError, same_bytes
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind)
    for one in (config, *vars(config).values()):
        for name in LAYERS:
            if isinstance(getattr(one, name, None), int):
                setattr(one, name, 2)
    made = model_class(config)
    built = build(lambda: made(config), "meta")
    count = sum(p.numel() for p in built.model.parameters())
    row: dict[str, Any] = {"type": kind, "class": made.__name__, "size": count}
    if count > MOST_PARAMETERS:
        return {**row, "skipped": "large"}
    values, others = replayed(built, 5), replayed(built, 6)
    torch.manual_seed(5)
    plain = {m.name: m.tensor for m in members(made(config))}
    row |= {"equal": 0, "moved": 0, "wrong": [], "same": [], "no_value": []}
    for member in members(built.model):
        expression = built.trace.read(member.tensor)
        try:
            mine = values.value(expression)
            other = others.value(expression)
        except NoValueError:
            row["no_value"].append(member.name)
            continue
        if same_bytes(mine, plain[member.name].detach()):
            row["equal"] += 1
        else:
            row["wrong"].append(member.name)
        differs = not same_bytes(mine, other)
        row["moved"] += differs
        if expression.is_random and not differs:
            row["same"].append(member.name)
    return row


def one(way: str, kind: str) -> dict[str, Any]:
    """The row of one type, made in a process of its own."""
    command = [sys.executable, __file__, "--one", way, kind]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"type": kind, "error": f"more than {SECONDS} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"type": kind, "error": done.stderr.strip().splitlines()[-1:]}
    row: dict[str, Any] = json.loads(lines[-1])
    return row


def here(way: str, kind: str) -> dict[str, Any]:
    """The row of one type, made in this process."""
    try:
        return coverage(kind) if way == "coverage" else replay(kind)
    except Exception as error:
        return {"type": kind, "error": f"{type(error).__name__}: {error}"[:300]}


def summary(rows: list[dict[str, Any]]) -> None:
    built = [row for row in rows if "error" not in row]
    print(f"built {len(built)} of {len(rows)} types")
    for name in ("parameters", "in_plan", "buffers", "equal", "moved"):
        if any(name in row for row in built):
            print(f"{name}: {sum(row.get(name, 0) for row in built):,}")
    for name in ("wrong", "same", "no_value", "refused"):
        found = {row["type"]: row[name] for row in built if row.get(name)}
        if found:
            count = sum(len(names) for names in found.values())
            print(f"{name}: {count:,} tensors of {len(found)} types")
    reasons = Counter(
        text.partition(" | ")[0] for row in built for text in row.get("refused", {}).values()
    )
    for reason, count in reasons.most_common(40):
        print(f"{count:6} {reason}")


def main() -> None:
    if sys.argv[1] == "--batch":
        # One process for many types: imports are most of the time.
        for kind in sys.argv[3:]:
            print(json.dumps(here(sys.argv[2], kind)), flush=True)
        return
    if sys.argv[1] == "--one":
        print(json.dumps(here(sys.argv[2], sys.argv[3])))
        return
    rows = []
    for kind in sys.argv[2:] or types():
        rows.append(one(sys.argv[1], kind))
        print(json.dumps(rows[-1]), flush=True)
    summary(rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
