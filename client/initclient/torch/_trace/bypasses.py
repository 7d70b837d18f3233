"""Bypasses: what reaches values or memory of tensors without an operation of torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from initclient.torch._trace.sources import is_torch, source
from initclient.torch._trace.trace import Trace

_FROM_DATA = ("tensor", "as_tensor", "asarray", "new_tensor")
_TO_PYTHON = ("numpy", "__array__", "tolist")
_OF_MEMORY = ("data_ptr", "type")
_INDEXING = ("__getitem__", "__setitem__")
_ON_CPU = {
    torch.Tensor.device: torch.device("cpu"),
    torch.Tensor.is_meta: False,
    torch.Tensor.is_cpu: True,
}


class Bypasses(TorchFunctionMode):
    """Follows values that leave the dispatcher, for a trace.

    On the meta device a model's own code sees tensors that claim to be on the CPU, since models
    skip or change their initialization where they find the meta device.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one function of torch's API."""
        keywords = dict(kwargs or {})
        trace = self._trace
        if trace._paused:
            return func(*args, **keywords)
        name = getattr(func, "__name__", "")
        if trace.on_meta:
            args, keywords = _without_devices(name, args, keywords)
            if name in _INDEXING and len(args) > 1:
                # Here, since torch would make a tensor without values of the list.
                args = (args[0], self._with_tensors(args[1], whole=True), *args[2:])
        if name == "__get__" and trace.on_meta and args:
            claimed = _ON_CPU.get(getattr(func, "__self__", None))
            if claimed is not None and args[0].is_meta and _asked_by_a_model():
                return claimed
        elif name in _FROM_DATA:
            args, keywords = self._with_numbers(name, args, keywords)
            made = self._from_data(name, args, keywords) if trace.on_meta else None
            if made is not None:
                return made
        elif name == "__set__" and trace.on_meta and len(args) == 2 and _replaces_memory(*args):
            return func(args[0], trace.stand_in(args[1]))
        elif name == "cuda" and trace.on_meta and args:
            return args[0]
        elif name in _OF_MEMORY and trace.on_meta and args[0].is_meta and _asked_by_a_model():
            return self._of_memory(func, name, args, keywords)
        elif name in _TO_PYTHON and args and isinstance(args[0], torch.Tensor):
            return self._to_python(func, name, args, keywords)
        elif name == "__deepcopy__" and not isinstance(args[0], torch.nn.Parameter):
            return _deep_copy(args[0], args[1] if len(args) > 1 else {})
        return func(*args, **keywords)

    def _from_data(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> torch.Tensor | None:
        """A tensor of data that asks for the meta device, where they would be lost."""
        data = args[1] if name == "new_tensor" else args[0] if args else keywords.get("data")
        device = keywords.get("device")
        device = torch.get_default_device() if device is None else device
        if data is None or isinstance(data, torch.Tensor) or torch.device(device).type != "meta":
            return None
        with self._trace.paused():
            values = torch.tensor(data, dtype=keywords.get("dtype"), device="cpu")
        made = self._trace.stand_in(values)
        return made.requires_grad_() if keywords.get("requires_grad") else made

    def _of_memory(
        self, func: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        if name == "data_ptr":
            if not args[0].numel():
                return 0
            raise self._trace.fail(
                f"the code asks for the address of a tensor's memory at {source().called}, which "
                "it does not have on the meta device; record with device='cpu'"
            )
        found = func(*args, **keywords)
        # Without an argument, the name of a type.
        return found.replace("torch.meta.", "torch.") if isinstance(found, str) else found

    def _with_numbers(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with numbers in place of tensors in a list, which torch would read."""

        def numbers(data: Any) -> Any:
            if isinstance(data, torch.Tensor):
                return self._trace.value(data, f"torch.{name} of a list").tolist()
            return [numbers(one) for one in data] if _has_tensors(data) else data

        if "data" in keywords and _has_tensors(keywords["data"]):
            return args, {**keywords, "data": numbers(keywords["data"])}
        place = 1 if name == "new_tensor" else 0
        if len(args) <= place or not _has_tensors(args[place]):
            return args, keywords
        return (*args[:place], numbers(args[place]), *args[place + 1 :]), keywords

    def _with_tensors(self, index: Any, *, whole: bool = False) -> Any:
        """An index with tensors in place of lists and NumPy arrays of numbers."""
        if isinstance(index, tuple):
            return tuple(self._with_tensors(one) for one in index)
        if not isinstance(index, list | range | np.ndarray):
            return index
        if whole and isinstance(index, list) and not all(map(np.isscalar, index)):
            # torch itself says whether a list of lists is a tuple: its releases differ.
            return [self._with_tensors(one) for one in index]
        if not _are_numbers(index):
            return index
        kind = None if np.size(index) else torch.long
        with self._trace.paused():
            values = torch.tensor(index, dtype=kind, device="cpu")
        return self._trace.stand_in(values)

    def _to_python(
        self, func: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        tensor = args[0]
        trace = self._trace
        values = trace.value(tensor, f"Tensor.{name}")
        if not trace.on_meta:
            return func(*args, **keywords)
        with trace.paused():
            found = func(values.clone(), *args[1:], **keywords)
        if isinstance(found, np.ndarray):
            # A write to it would not reach the tensor: rather an error there.
            found.setflags(write=False)
        return found


def _has_tensors(data: Any) -> bool:
    """Whether data are a list with tensors in it, all the way down."""
    if not isinstance(data, list | tuple):
        return False
    return any(isinstance(one, torch.Tensor) or _has_tensors(one) for one in data)


def _are_numbers(index: Any) -> bool:
    """Whether an index is an array of numbers, or lists of them all the way down."""
    if isinstance(index, np.ndarray | range | int | np.integer | np.bool_):
        return True
    return isinstance(index, list) and all(map(_are_numbers, index))


def _without_devices(
    name: str, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the CPU for devices that this machine may lack.

    torch refuses those before an operation begins. What asks for the CPU gets the meta device.
    """
    if _is_elsewhere(keywords.get("device")):
        keywords = {**keywords, "device": torch.device("cpu")}
    if name == "to" and len(args) > 1 and _is_elsewhere(args[1]):
        args = (args[0], torch.device("cpu"), *args[2:])
    elif any(isinstance(one, torch.device) and _is_elsewhere(one) for one in args):
        args = tuple(
            torch.device("cpu") if isinstance(one, torch.device) and _is_elsewhere(one) else one
            for one in args
        )
    return args, keywords


def _is_elsewhere(device: Any) -> bool:
    if isinstance(device, int) and not isinstance(device, bool):
        return True
    if isinstance(device, str):
        return device.partition(":")[0] not in ("cpu", "meta")
    return isinstance(device, torch.device) and device.type not in ("cpu", "meta")


def _asked_by_a_model() -> bool:
    return not is_torch(sys._getframe(2).f_code.co_filename)


def _replaces_memory(tensor: Any, value: Any) -> bool:
    """Whether `tensor.data = value` puts memory into a tensor that has none."""
    tensors = isinstance(tensor, torch.Tensor) and isinstance(value, torch.Tensor)
    return tensors and tensor.is_meta and not value.is_meta


def _deep_copy(tensor: torch.Tensor, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy` of a tensor by an operation, where torch copies bytes of the storage."""
    if id(tensor) not in memo:
        copied = tensor.detach().clone()
        copied.requires_grad_(tensor.requires_grad)
        copied.__dict__.update(tensor.__dict__)
        memo[id(tensor)] = copied
    return memo[id(tensor)]
