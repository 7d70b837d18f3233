"""Own code: which modules initialize their parts themselves, and the line that records it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

from initcore import PlanError, Violation
from torch import nn

from initclient.torch._model.named_tensors import Member, class_name

# Methods in which models initialize their own parts, whatever they call there.
_METHODS = ("_init_weights", "init_weights", "reset_parameters", "_reset_parameters")

# The one that trainers call after the constructor, in torchtitan and mmcv.
_CALLED = "init_weights"

# In a function for initialization, the sign that it does so: a call of these.
_INITIALIZERS = frozenset(name for name in dir(nn.init) if name.endswith("_") and name[0] != "_")

# And of these, in a function that names parameters too: a mask that is filled is no parameter.
_CHANGES = frozenset(
    ("add_", "clamp_", "copy_", "data", "div_", "fill_", "mul_", "no_grad", "sub_", "zero_")
)
_PARAMETERS = frozenset(
    ("bias", "modules", "named_modules", "named_parameters", "parameters", "weight")
)

# Packages whose classes are containers, or go around a model that was built before.
_WRAPPING = {"torch", "accelerate", "deepspeed", "lightning", "peft", "pytorch_lightning"}


class OwnCode:
    """Refuses torch's defaults where a model's own code decides.

    Args:
        seed: the plan's seed, for the line that records the model.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._first: dict[str, str] = {}

    def refuse_default(self, member: Member) -> None:
        """Refuses torch's default for a parameter within a module that initializes its parts.

        Raises:
            PlanError: naming the parameter and the class, and once for each class the line that
                records the model.
        """
        owner = initializes_itself(member)
        if owner is None:
            return
        first = self._first.setdefault(owner, member.name)
        message = f"{owner} initializes its weights itself"
        if member.name == first:
            message += (
                ", which torch's defaults do not repeat; record that code: "
                f"{self.recording_line(member)}; or decide otherwise: rules for these parameters, "
                "or torch's defaults on purpose by recipe='torch'"
            )
        else:
            message += f", as for {first}; record that code, or add a rule"
        raise PlanError([Violation(member.name, "scheme", message)])

    def recording_line(self, member: Member) -> str:
        """The line that makes the plan of what the model's own code draws."""
        model = member.path[0]
        package = type(model).__module__.partition(".")[0]
        plan = f"plan(seed={self._seed})"
        later = next(filter(initializes_when_called, member.path), None)
        if later is not None:
            whose = "its init_weights" if later is model else f"{class_name(later)}.init_weights"
            steps = f"builds the model, calls {whose} and returns it"
            return f"ict.record(make).{plan}, where make() {steps}"
        if package in _WRAPPING:
            # The class says nothing of what is within.
            return f"ict.record(make).{plan}, where make() builds the model and returns it"
        given = "..." if getattr(model, "config", None) is None else "config"
        return f"ict.record({class_name(model)}, {given}).{plan}"


def initializes_itself(member: Member) -> str | None:
    """The class, and method, of the outermost module that initializes its parts itself.

    That is a module with a method of a usual name (`_init_weights`), or one whose constructor or
    other function for it (`initialize`, `reset`) calls torch.nn.init, as torchvision's do.
    """
    for module in member.path:
        kind: Any = type(module)
        if method := _method(kind):
            return f"{class_name(module)} ({method})"
    return None


def initializes_when_called(module: nn.Module) -> bool:
    """Whether a model has an `init_weights` that somebody has to call, with no arguments."""
    if hasattr(type(module), "_init_weights"):
        # Those of transformers call it from the constructor.
        return False
    # A static method is no function here: it initializes the module that it is given.
    method = inspect.getattr_static(type(module), _CALLED, None)
    if not inspect.isfunction(method) or _is_torchs(method):
        return False
    rest = list(inspect.signature(method).parameters.values())[1:]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(one.default is not one.empty or one.kind in several for one in rest)


@lru_cache(maxsize=1024)
def _method(kind: type) -> str:
    """The method of a class that initializes its parts; "" for none."""
    for name in _METHODS:
        method = getattr(kind, name, None)
        if method is not None and not _is_torchs(method):
            return name
    own = [one for one in kind.__mro__ if one.__module__ != "builtins" and not _is_torchs(one)]
    for one in own:
        for name, value in vars(one).items():
            if ("init" in name or "reset" in name) and _initializes(name, value):
                return name
    # Methods of any name that the constructor calls.
    for one in own:
        for name in _names_of(_function(vars(one).get("__init__"))):
            method = _function(inspect.getattr_static(kind, name, None))
            if method is not None and not _is_torchs(method) and _initializes(name, method):
                return name
    return ""


def _initializes(name: str, value: Any, with_helpers: bool = True) -> bool:
    """Whether a function of a class calls an initializer of torch, changes parameters in another
    way, applies a function, or calls a helper of its module that does so."""
    function = _function(value)
    called = set(_names_of(function))
    if called & _INITIALIZERS or (name == "__init__" and "apply" in called):
        return True
    if called & _CHANGES and called & _PARAMETERS:
        return True
    found = (getattr(function, "__globals__", {}).get(one) for one in called)
    helpers = [one for one in found if inspect.isfunction(one)]
    # By another name, as from `import kaiming_normal_ as he`.
    if any(one.__module__ == nn.init.__name__ for one in helpers):
        return True
    return with_helpers and any(
        _initializes(one.__name__, one, with_helpers=False)
        for one in helpers
        if not _is_torchs(one)
    )


def _function(value: Any) -> Any:
    """The function of Python behind a class's attribute; None if there is none."""
    value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    try:
        value = inspect.unwrap(value)
    except ValueError:
        return None
    return value if inspect.isfunction(value) else None


def _names_of(function: Any) -> Iterator[str]:
    return iter(()) if function is None else _names(function.__code__)


def _names(code: CodeType) -> Iterator[str]:
    """The names that a function takes from elsewhere, and those of functions within it."""
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _names(one)


def _is_torchs(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "torch"
