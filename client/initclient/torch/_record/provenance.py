"""Provenance: the class, the configuration and the libraries that a recorded plan came from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from initclient.torch._trace import Trace


def provenance(model: nn.Module, trace: Trace) -> dict[str, str]:
    """What a recorded plan came from, as text by key.

    The keys are "model" (the class), one for each library whose code took part, with its version,
    and "config_sha256" for a model with a configuration that can be written as JSON.

    Args:
        model: the recorded model.
        trace: the trace of its construction.
    """
    kind = type(model)
    found = {"model": f"{kind.__module__}.{kind.__qualname__}"}
    roots = {"torch"}
    for module in model.modules():
        roots.add(type(module).__module__.partition(".")[0])
    roots |= {drawn.source.called.file.partition("/")[0] for drawn in trace.draws if drawn.source}
    versions = {root: version for root in sorted(roots) if (version := _version(root))}
    found |= versions
    digest = _config_digest(getattr(model, "config", None))
    if digest:
        found["config_sha256"] = digest
    return found


def _version(root: str) -> str:
    if root == "torch":
        return str(torch.__version__)
    if root not in sys.modules or root in sys.stdlib_module_names or root.startswith("init"):
        return ""
    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _config_digest(config: Any) -> str:
    """The SHA-256 of a configuration as JSON with sorted keys; "" where it has no such form."""
    to_dict = getattr(config, "to_dict", None)
    form = to_dict() if callable(to_dict) else config
    if not isinstance(form, Mapping):
        return ""
    # It names the library's version, which stands beside it.
    plain = {key: value for key, value in form.items() if key != "transformers_version"}
    try:
        text = json.dumps(plain, sort_keys=True)
    except (TypeError, ValueError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()
