"""Building: runs a constructor, or any function, while its operations are traced."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from initcore import PlanError, Violation
from torch import nn

from initclient._laws.surroundings import (
    Watch,
    global_states,
    numbers_taken,
    surroundings_watched,
)
from initclient.torch._trace import (
    Bypasses,
    Trace,
    refuse_within,
    tracing,
    watched_initializers,
    watched_threads,
)

DEVICES = ("meta", "cpu")


@dataclass(frozen=True)
class Built:
    """A model and the trace of the code that made it.

    Attributes:
        model: the model.
        trace: the trace.
        notes: what the user should know about the run, as sentences.
        state: the state of torch's generator before the run.
        uncalled: names of classes in the model whose `init_weights` the code does not call.
    """

    model: nn.Module
    trace: Trace
    notes: tuple[str, ...]
    state: torch.Tensor
    uncalled: tuple[str, ...] = ()


def build(
    function: Callable[[], Any],
    device: str,
    model: nn.Module | None = None,
    *,
    ahead: float = 0.0,
    earlier: Trace | None = None,
) -> Built:
    """Runs a function that makes or changes a model, and traces it.

    Args:
        function: returns the model, or None if `model` is given.
        device: "meta" or "cpu".
        model: the model that the function changes, if there is one already.
        ahead: seconds that clocks are ahead for the user's code.
        earlier: the trace of an earlier run of the same code.

    Raises:
        PlanError: if no model comes of it, or the recording cannot go on.
    """
    trace = Trace(device, None if earlier is None else earlier.memory)
    if model is not None:
        for tensor in (*model.parameters(), *model.buffers()):
            trace.memory.forbid(tensor)
    before = torch.get_rng_state()
    states = global_states()
    try:
        with (
            surroundings_watched(ahead) as watch,
            watched_initializers(),
            watched_threads(),
            tracing(trace, Bypasses(trace)),
        ):
            made = function()
    except PlanError:
        raise
    except Exception as error:
        if trace.failure is not None:
            raise trace.failure from error
        if trace.missing is not None and trace.missing.error is error:
            raise trace.missing.refusal() from error
        if device == "meta":
            error.add_note(
                "initserve recorded this on the meta device, where tensors have no values; "
                "record(..., device='cpu') builds it with memory"
            )
        raise
    found = made if isinstance(made, nn.Module) else model
    if found is None:
        message = f"the function returned {type(made).__name__}; let it return the model"
        raise PlanError([Violation("", "record", message)])
    return Built(
        found, trace, (*numbers_taken(states), *_notes(trace), *_readings(watch, found)), before
    )


@contextmanager
def generators_restored() -> Iterator[None]:
    """Puts the states of the process's random generators back, also after an error.

    The lock keeps recordings of two threads apart, whose states would mix.
    """
    # Before the lock, which this thread would wait for.
    refuse_within()
    with _lock:
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])


def _notes(trace: Trace) -> Iterator[str]:
    if trace.generator.is_seeded:
        yield "the code seeds torch's generator; the plan's own seed decides instead"
    if (repeated := trace.generator.repeated) is not None:
        yield (
            "the code puts torch's generator back to an earlier state, so that the draw at "
            f"{repeated.called} repeats numbers of an earlier draw; tensors of equal draws have "
            "equal values in the plan, and others drawn from one state are refused"
        )


def _readings(watch: Watch, model: nn.Module) -> Iterator[str]:
    modules = {type(module).__module__ for module in model.modules()}
    files = {getattr(sys.modules.get(name), "__file__", None) or "" for name in modules}
    return watch.notes(files)


_lock = Lock()


def as_function(
    build: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[Callable[[], Any], nn.Module | None]:
    """What `record` runs, and the model that it changes, if there is one already.

    Args:
        build: a class, a function, a method of a model, or a config of transformers.
        arguments: its arguments.
        keywords: its keyword arguments.

    Raises:
        PlanError: for a model, which is built already, and for a config that names no class.
        TypeError: for anything else that cannot be called.
    """
    if isinstance(build, nn.Module):
        kind = type(build).__name__
        message = (
            f"is a model that is built already, which says nothing of how; record its constructor, "
            f"as ict.record({kind}, ...), or the method that initializes it, as "
            "ict.record(model.init_weights)"
        )
        raise PlanError([Violation("", "build", message)])
    if _is_config(build):
        kind = model_class(build)
        return lambda: kind(build, *arguments, **keywords), None
    if not callable(build):
        raise TypeError(f"record got {build!r}; give a class, a function or a config")
    owner = getattr(build, "__self__", None)
    model = owner if isinstance(owner, nn.Module) else None
    return lambda: build(*arguments, **keywords), model


def model_class(config: Any) -> Any:
    """The class of transformers that a config names.

    Raises:
        PlanError: if it names none, several, or one that this release of transformers lacks.
    """
    import transformers

    names = list(getattr(config, "architectures", None) or ())
    if len(names) != 1:
        message = (
            f"names {'no class' if not names else f'{len(names)} classes'} in its architectures; "
            "say which, as ict.record(LlamaForCausalLM, config)"
        )
        raise PlanError([Violation("", "config", message)])
    found = getattr(transformers, names[0], None)
    if found is None:
        message = (
            f"names the class {names[0]!r}, which transformers {transformers.__version__} does not "
            "have; import the class and write ict.record(CLASS, config)"
        )
        raise PlanError([Violation("", "architectures", message)])
    return found


def _is_config(build: Any) -> bool:
    # Without importing transformers, which may not be there.
    return any(
        kind.__name__ in ("PretrainedConfig", "PreTrainedConfig")
        and kind.__module__.startswith("transformers.")
        for kind in type(build).__mro__
    )
