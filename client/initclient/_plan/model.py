"""Model and ModelInfo: plans that servers have by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Model:
    """A plan that a server has by name (`initserver --models`), wherever a plan is taken.

    Attributes:
        name: its name there, such as "acme/llama-8b".
        digest: the digest of its plan, 64 hexadecimal digits: another plan of this name is an
            error. None takes the plan that the name has now. Ranks of one job must pass one
            digest, since the model may change between their calls.

    Raises:
        TypeError, ValueError: for a name that is empty or no text, or a digest of another form.
    """

    name: str
    digest: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"the model's name is {self.name!r}; give text, such as 'acme/llama'")
        if not self.name.strip():
            raise ValueError("the model's name is empty; `initclient models` lists the names")
        if self.digest is not None and not (
            isinstance(self.digest, str) and _DIGEST.fullmatch(self.digest)
        ):
            raise ValueError(
                f"digest is {self.digest!r}; it must have 64 hexadecimal digits, as in "
                "`initclient models`"
            )


@dataclass(frozen=True)
class ModelInfo:
    """A model of a server.

    Attributes:
        name: its name.
        digest: the digest of its plan.
        nbytes: size of the plan's file.
        tensors: number of tensors.
    """

    name: str
    digest: str
    nbytes: int
    tensors: int
