"""How the reference reads our docstrings: `Example:` is a section of code, as `Examples:` is."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Renames the section before it is parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Is called for each class, function, attribute and module that was read."""
        if obj.docstring:
            obj.docstring.value = re.sub("^Example:$", "Examples:", obj.docstring.value, flags=re.M)
