"""Tracing: every operation of torch in a block, on the meta device or on the CPU.

On the meta device nothing has memory: what makes tensors makes them there, whatever device it
asks for, and data become tensors without memory whose values the trace knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from initcore import PlanError, Violation
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

from initclient._laws import Constant, Law
from initclient.torch._trace.draws import as_drawn, is_random, law_of
from initclient.torch._trace.evaluation import Evaluation, NoValueError, tensors_in
from initclient.torch._trace.expressions import (
    Call,
    Drawn,
    Expression,
    Filled,
    Kept,
    Unseen,
    Unwritten,
    operation_name,
)
from initclient.torch._trace.generator import GeneratorStates, is_own
from initclient.torch._trace.geometry import geometry_of
from initclient.torch._trace.memory import Memory
from initclient.torch._trace.operations import (
    EMPTY,
    FILLED,
    FULL,
    LIFTED,
    SCALARS,
    Missing,
    MissingNoted,
    changed_tensors,
    counterpart,
    expressions_in,
    is_view,
    on_cpu,
    outputs,
    reads_operands,
    undeclared_changes,
)
from initclient.torch._trace.sources import source

_META = torch.device("meta")
_THEREFORE = "; what follows would depend on that draw, so no plan can have it"
_SPOKEN = {"_local_scalar_dense": "a number from a tensor (item, float, int, bool, if)"}


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What operations of torch wrote, in a `with` block.

    Args:
        device: "meta", where nothing has memory, or "cpu".
        earlier: the memory of an earlier run of the same code.

    Attributes:
        memory: the content of every storage.
        draws: all draws, in order.
        generator: the states of torch's generator at the draws.
        failure: the first error of the recording itself, which the traced code may have caught.
        missing: the last operation that torch could not run on the meta device.
        is_over: whether the block has ended.
    """

    def __init__(self, device: str, earlier: Memory | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_meta = device == "meta"
        self.memory = Memory(earlier)
        self.draws: list[Drawn] = []
        self.generator = GeneratorStates(self.on_meta)
        self.failure: PlanError | None = None
        self.missing: Missing | None = None
        self.is_over = False
        self._paused = 0
        self._values = Evaluation()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operation and notes what it wrote."""
        if self._paused:
            return func(*args, **(kwargs or {}))
        return self._run(func, args, dict(kwargs or {}))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Operations within are not traced."""
        self._paused += 1
        try:
            with _disable_current_modes():
                yield
        finally:
            self._paused -= 1

    def read(self, tensor: torch.Tensor) -> Expression:
        """The content of a tensor."""
        with self.paused():
            return self.memory.read(tensor)

    def value(self, tensor: torch.Tensor, asked_for: str) -> torch.Tensor:
        """The values of a tensor, which the traced code needs to go on.

        Raises:
            PlanError: if it has none that do not depend on a draw.
        """
        try:
            return self._values.value(self.read(tensor))
        except NoValueError as error:
            is_kept = isinstance(error.expression, Kept)
            raise self.fail(
                f"{asked_for} needs the value of a tensor at {source().called}, and {error}"
                f"{'' if is_kept else _THEREFORE}"
            ) from error

    def fail(self, message: str) -> PlanError:
        """An error that ends the recording, even if the traced code catches it."""
        error = PlanError([Violation("", "record", message)])
        self.failure = self.failure or error
        return error

    def draw(
        self,
        tensor: torch.Tensor,
        law: Law,
        again: Callable[[torch.Tensor], Any],
        *,
        own_generator: bool = False,
    ) -> None:
        """Notes that a tensor was drawn, since the last call of `generator.begin`.

        Args:
            tensor: the tensor.
            law: the distribution.
            again: draws into a tensor of the same geometry.
            own_generator: whether a Generator of the model's own draws.
        """
        if tensor.is_meta and not self.on_meta:
            self._note_unseen(tensor, "it was drawn on the meta device, without values")
            return
        view, dtype = geometry_of(tensor), tensor.dtype

        def repeat() -> torch.Tensor:
            blank = torch.empty_strided(view.shape, view.strides, dtype=dtype)
            made = again(blank)
            return made if isinstance(made, torch.Tensor) else blank

        law = as_drawn(law, dtype)
        # A law without spread draws too, which counts for the order of draws.
        number, made_by = len(self.draws), source()
        own = own_generator
        start = None if own else self.generator.note(number, law, view, dtype, made_by)
        drawn = Drawn(view.shape, dtype, law, number, repeat, own, start, source=made_by)
        self.draws.append(drawn)
        content: Expression = drawn
        if isinstance(law, Constant) and not own:
            content = Filled(view.shape, dtype, law.val, source=made_by)
        self.memory.write(tensor, content)

    def stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on meta for one with memory, whose values the trace remembers."""
        with self.paused():
            content = self.memory.read(tensor)
            found = torch.empty_like(tensor, device=_META)
            self.memory.write(found, content)
            self.memory.note_made(found)
        return found

    def _run(self, func: Any, args: Any, keywords: dict[str, Any]) -> Any:
        name = operation_name(func)
        if self.on_meta:
            args, keywords = self._on_meta(func, name, args, keywords)
        tensors = tensors_in((args, keywords))
        if name in SCALARS or func._schema.name.endswith("::item"):
            return self._scalar(func, name, args, keywords)
        if name in LIFTED:
            return self._lift(func, args[0])
        changed = changed_tensors(func, args, keywords)
        if not changed and is_view(func):
            for tensor in tensors:
                # A parameter of a lazy module has no shape before its first use.
                if not is_lazy(tensor):
                    self.read(tensor)
            return func(*args, **keywords)
        before = self._expressions((args, keywords)) if reads_operands(name, func) else None
        with self.paused():
            if is_random(func):
                self.generator.begin()
            for tensor in changed:
                self.memory.before_change(tensor)
        with MissingNoted(self, func):
            result = self._execute(func, args, keywords, tensors, before)
        with self.paused():
            for tensor in changed:
                self.memory.after_change(tensor)
        if changed:
            for tensor in changed:
                self._note_change(func, name, tensor, args, keywords, before)
        for number, tensor in enumerate(tensors_in(result)):
            if any(tensor is one for one in tensors):
                continue
            if changed:
                self._note_unseen(tensor, f"{name} changes its operands, too")
            else:
                self._note_result(func, name, tensor, args, keywords, before, number)
            self.memory.note_made(tensor)
        for tensor in undeclared_changes(name, args):
            self._note_unseen(tensor, "a forward pass has changed these running statistics")
        return result

    def _on_meta(
        self, func: Any, name: str, args: Any, keywords: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The arguments with the meta device, and with tensors on it, in place of all others."""
        takes_device = any(one.name == "device" for one in func._schema.arguments)
        tensors = tensors_in((args, keywords))
        if takes_device and ("device" in keywords or not tensors):
            keywords = {**keywords, "device": _META}
            if keywords.get("pin_memory"):
                keywords["pin_memory"] = False
        if name in LIFTED or name in SCALARS or all(t.is_meta for t in tensors):
            return args, keywords
        if not any(t.is_meta for t in tensors) and changed_tensors(func, args, keywords):
            # Memory from before the recording changes as the code wants.
            return args, keywords

        def there(leaf: Any) -> Any:
            is_real = isinstance(leaf, torch.Tensor) and not leaf.is_meta
            return self.stand_in(leaf) if is_real else leaf

        changed = changed_tensors(func, args, keywords)
        if any(not tensor.is_meta for tensor in changed):
            raise self.fail(
                f"a tensor from before the recording is changed at {source().called}, by values "
                "that have no memory on the meta device; record with device='cpu'"
            )
        if not changed and is_view(func):
            # A view shares memory, which a stand-in would not.
            return args, keywords
        return tree_map(there, args), tree_map(there, keywords)

    def _lift(self, func: Any, tensor: torch.Tensor) -> torch.Tensor:
        if self.on_meta:
            return tensor if tensor.is_meta else self.stand_in(tensor)
        self.read(tensor)
        result: torch.Tensor = func(tensor)
        return result

    def _scalar(self, func: Any, name: str, args: Any, keywords: dict[str, Any]) -> Any:
        # Also on the CPU, where there is a value: it is the value of one draw of many.
        def there(leaf: Any) -> Any:
            return (
                self.value(leaf, _SPOKEN.get(name, name))
                if isinstance(leaf, torch.Tensor)
                else leaf
            )

        values = tree_map(there, args)
        with self.paused():
            return func(*values, **keywords)

    def _execute(
        self, func: Any, args: Any, keywords: Any, tensors: list[torch.Tensor], before: Any
    ) -> Any:
        try:
            return func(*args, **keywords)
        except (NotImplementedError, RuntimeError):
            if not self.on_meta or before is None or not any(t.is_meta for t in tensors):
                raise
            if any(e.is_random for e in expressions_in(before)):
                raise
        return on_cpu(self, func, args, keywords)

    def _note_change(
        self, func: Any, name: str, tensor: torch.Tensor, args: Any, keywords: Any, before: Any
    ) -> None:
        """Notes what an operation in place, or with `out=`, has made of a tensor."""
        shape, dtype = tuple(tensor.shape), tensor.dtype
        if is_random(func):
            self._note_draw(func, tensor, args, keywords, tensor)
            return
        content: Expression
        if name == "zero":
            content = Filled(shape, dtype, 0, source=source())
        elif name == "fill" and not isinstance(args[1], torch.Tensor):
            content = Filled(shape, dtype, args[1], source=source())
        elif name == "set":
            # It shares another tensor's storage from now on, whose content is known.
            return
        elif name == "resize":
            content = Unwritten(shape, dtype, source=source())
        else:
            content = self._changed_content(func, name, tensor, args, keywords, before)
        with self.paused():
            self.memory.write(tensor, self._settled(content))

    def _changed_content(
        self, func: Any, name: str, tensor: torch.Tensor, args: Any, keywords: Any, before: Any
    ) -> Expression:
        shape, dtype = tuple(tensor.shape), tensor.dtype
        old_args, old_keywords = before
        if name == "copy":
            copied = old_args[1]
            if isinstance(copied, Expression) and (copied.shape, copied.dtype) == (shape, dtype):
                return copied
        changed = counterpart(tensor, (args, keywords), before)
        is_out = any(one is tensor for one in tensors_in(outputs(func, keywords)))
        if is_out or name == "copy":
            blank = Unwritten(shape, dtype)
            old_args, old_keywords = tree_map(
                lambda leaf: blank if leaf is changed else leaf, (old_args, old_keywords)
            )
            changed, is_out = blank, True
        return Call(shape, dtype, func, old_args, old_keywords, changed, 0, is_out, source=source())

    def _note_result(
        self,
        func: Any,
        name: str,
        tensor: torch.Tensor,
        args: Any,
        keywords: Any,
        before: Any,
        number: int,
    ) -> None:
        """Notes a new tensor, the result of an operation."""
        shape, dtype = tuple(tensor.shape), tensor.dtype
        content: Expression
        if is_random(func):
            self._note_draw(func, tensor, args, keywords, None)
            return
        if name in EMPTY:
            content = Unwritten(shape, dtype, source=source())
        elif name in FILLED:
            content = Filled(shape, dtype, FILLED[name], source=source())
        elif name in FULL:
            value = keywords.get("fill_value", args[FULL[name]] if len(args) > FULL[name] else 0)
            content = Filled(shape, dtype, value, source=source())
        elif before is None:
            return
        else:
            operands, named = before
            content = Call(shape, dtype, func, operands, named, None, number, source=source())
        with self.paused():
            # The meta device may give a storage with more room than the result.
            self.memory.replace(tensor, self._settled(content))

    def _note_unseen(self, tensor: torch.Tensor, reason: str) -> None:
        content = Unseen(tuple(tensor.shape), tensor.dtype, reason, source=source())
        with self.paused():
            self.memory.write(tensor, content)

    def _note_draw(
        self, func: Any, tensor: torch.Tensor, args: Any, keywords: Any, target: Any
    ) -> None:
        law = law_of(func, args, keywords)
        plain = {k: v for k, v in keywords.items() if k not in ("generator", "device")}
        places = [i for i, one in enumerate(args) if isinstance(one, torch.Tensor)]
        takes_device = any(one.name == "device" for one in func._schema.arguments)
        is_new = target is None and not func._schema.name.endswith("_like")
        # What a draw reads, such as probabilities, has values on the CPU alone.
        copied = [
            one.detach().clone() if is_new and i in places else one for i, one in enumerate(args)
        ]

        def again(blank: torch.Tensor) -> Any:
            given = {**plain, "device": torch.device("cpu")} if takes_device else plain
            if is_new and (not places or not self.on_meta):
                return func(*copied, **given)
            if places == [0] and not is_new:
                return func(blank, *args[1:], **given)
            raise NotImplementedError(f"{func} draws by the values of other tensors")

        own = is_own(keywords.get("generator"))
        with self.paused():
            self.draw(tensor, law, again, own_generator=own)

    def _expressions(self, tree: Any) -> Any:
        with self.paused():
            return tree_map(
                lambda leaf: self.memory.read(leaf) if isinstance(leaf, torch.Tensor) else leaf,
                tree,
            )

    def _settled(self, content: Expression) -> Expression:
        """The content, or its values where they are to be computed at once."""
        values = self._values.settled(content)
        return content if values is None else self.memory.data(values)
