"""The modules `os` and `fcntl` of the machine in place; files of partial fetches import them here.

`from initclient._machine import os` reads as `import os` does, and every call, such as
`os.pwrite`, goes to the machine that runs the process at that moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from initclient._machine.machine import here

if TYPE_CHECKING:
    import fcntl
    import os
else:

    class _Calls:
        """Looks a name up in a module of the machine in place."""

        def __init__(self, module: str) -> None:
            self._module = module

        def __getattr__(self, name: str) -> Any:
            return getattr(getattr(here(), self._module), name)

    os = _Calls("os")
    fcntl = _Calls("fcntl")

__all__ = ["fcntl", "os"]
