"""The public names of the product and their signatures, as plain text.

`python -m tests.signatures.public VERSION` writes them into VERSION.json here, once a release: a
file that exists is never written again, and tests/test_signatures.py compares all of them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, get_origin

FOLDER = Path(__file__).parent

MODULES = (
    "initcore",
    "initclient",
    "initclient.aio",
    "initclient.torch",
    "initclient.jax",
    "initclient.jax.orbax",
    "initclient.recipes",
    "initserver",
)


def parameters(item: Any) -> list[list[str]] | None:
    """Name, kind and default of each parameter; None for what has no signature."""
    if get_origin(item) is not None:
        # A type, such as Callable[..., Any], to which Python 3.13 gives a signature.
        return None
    try:
        signature = inspect.signature(item)
    except (TypeError, ValueError):
        return None
    return [
        [p.name, p.kind.name, "required" if p.default is p.empty else _text(p.default)]
        for p in signature.parameters.values()
    ]


def _text(default: Any) -> str:
    # Without the address of a function.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(default))


def public() -> dict[str, list[list[str]] | None]:
    """Every public name with its parameters, and every public member of a public class."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for exported in module.__all__:
            item = getattr(module, exported)
            key = f"{name}.{exported}"
            found[key] = parameters(item) if callable(item) else None
            if inspect.isclass(item):
                for member, value in inspect.getmembers(item):
                    if not member.startswith("_") and is_ours(item, member):
                        found[f"{key}.{member}"] = parameters(value) if callable(value) else None
    return found


def is_ours(kind: type, member: str) -> bool:
    """Whether a class of the product defines a member."""
    return any(
        member in vars(base) and base.__module__.partition(".")[0].startswith("init")
        for base in kind.__mro__
    )


def main(version: str) -> None:
    path = FOLDER / f"{version}.json"
    if path.exists():
        raise SystemExit(f"{path} is there already; it says what that release promised")
    rows = (f"{json.dumps(name)}: {json.dumps(found)}" for name, found in sorted(public().items()))
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
