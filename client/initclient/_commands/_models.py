"""Models that users name on the command line: a function, or a config of transformers."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from initcore import MissingPackageError

from initclient._commands._folders import CONFIG_FILE
from initclient._commands._options import BadInput, reading

if TYPE_CHECKING:
    import initclient.torch as ict


def named_function(option: str, text: str) -> Callable[[], Any]:
    """The function that MODULE:FUNCTION names.

    Raises:
        BadInput: if there is no such function.
    """
    module, _, function = text.partition(":")
    if not module or not function or module.startswith("."):
        raise BadInput(f"{option} is {text!r}; give it as MODULE:FUNCTION, such as nets:make")
    # As `python -m` does: modules of the current folder are found first.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"{option} is {text!r}: {error}") from error
    if not callable(found):
        raise BadInput(f"{option} is {text!r}, which is {found!r}, and not a function")
    made: Callable[[], Any] = found
    return made


def recorded(text: str, *, device: str, trust_remote_code: bool) -> ict.Recording:
    """The recording of the model that `--model` names.

    Args:
        text: MODULE:FUNCTION, or the path of a config.json or of the folder that holds one.
        device: "meta" or "cpu".
        trust_remote_code: whether code beside the config may run.

    Raises:
        BadInput: if it names no model, or if the model is code beside the config and may not run.
        PlanError: if the model cannot be recorded.
    """
    # Imported first: without torch, its error has the install command.
    import initclient.torch as ict

    path = config_of(text)
    if path is None:
        return ict.record(named_function("--model", text), device=device)
    with reading("the config", path), open(path, encoding="utf-8") as file:
        try:
            form = json.load(file)
        except ValueError as error:
            raise BadInput(f"cannot read the config: {path} is not JSON ({error})") from error
    if not isinstance(form, dict) or not isinstance(form.get("model_type"), str):
        raise BadInput(f"{path} is not a config of transformers: it has no model_type")
    kind, config = _of_config(path, form, trust_remote_code)
    return ict.record(kind, config, device=device)


def config_of(text: str) -> str | None:
    """The path of the config that `--model` names; None if it names a function."""
    path = os.path.join(text, CONFIG_FILE) if os.path.isdir(text) else text
    return path if path.endswith(".json") else None


def _of_config(path: str, form: Mapping[str, Any], trust_remote_code: bool) -> tuple[Any, Any]:
    """The class that a config names, and the config."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingPackageError("transformers", "torch", "--model CONFIG.json") from error
    names = form.get("architectures") or []
    if not isinstance(names, list) or len(names) != 1:
        raise BadInput(
            f"{path} names {names or 'no class'} in its architectures; it must be a list of one "
            'class, such as ["LlamaForCausalLM"]'
        )
    name = str(names[0])
    if form["model_type"] in transformers.CONFIG_MAPPING and hasattr(transformers, name):
        return getattr(transformers, name), transformers.CONFIG_MAPPING[form["model_type"]](
            **{key: value for key, value in form.items() if key != "model_type"}
        )
    places = form.get("auto_map")
    place = _remote_class(name, places) if isinstance(places, Mapping) else None
    if place is None:
        raise BadInput(
            f"{path} has model_type {form['model_type']!r} and the class {name!r}, which "
            f"transformers {transformers.__version__} does not have"
        )
    if not trust_remote_code:
        raise BadInput(
            f"the class {name!r} is code beside {path}, or where its auto_map leads; read it, and "
            "give --trust-remote-code to run it"
        )
    folder = os.path.dirname(path) or "."
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    return get_class_from_dynamic_module(place, folder), config


def _remote_class(name: str, places: Mapping[str, Any]) -> str | None:
    """Where the code of a class is, as `auto_map` says: "modeling_own.OwnForCausalLM"."""
    found = [place for place in places.values() if str(place).rpartition(".")[2] == name]
    return str(found[0]) if found else None
