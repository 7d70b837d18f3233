"""Megatron-Core's optimizers without a GPU: replaces what names one, in 0.16.1.

Importing this module is enough.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch

from tests.launchers import megatron_on_cpu  # noqa: F401

_type = torch.Tensor.type


def _named_as_on_a_gpu(tensor: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
    # Optimizers tell types apart by names such as "torch.cuda.FloatTensor".
    found = _type(tensor, *arguments, **keywords)
    return found.replace("torch.", "torch.cuda.", 1) if isinstance(found, str) else found


def _on_the_host(make: Any) -> Any:
    @wraps(make)
    def made(*arguments: Any, **keywords: Any) -> Any:
        if keywords.get("device") == "cuda":
            keywords["device"] = "cpu"
        return make(*arguments, **keywords)

    return made


torch.Tensor.type = _named_as_on_a_gpu  # type: ignore[assignment,method-assign]
torch.tensor, torch.zeros = _on_the_host(torch.tensor), _on_the_host(torch.zeros)
