"""Model and ModelInfo: plans that servers have by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from initcore import Plan

_DIGEST = re.compile("[0-9a-f]{64}")

KNOWS_NO_SEEDS = (
    "this server knows no seeds of models, which are there since initserve 0.3.0; update it, or "
    "take the plan (ic.get_plan) and change its seed (plan.with_seed)"
)
"""What a server lacks for which the seed is an unknown field, and what to do."""


@dataclass(frozen=True)
class Model:
    """A plan that a server has by name (`initserver --models`), wherever a plan is taken.

    Attributes:
        name: its name there, such as "acme/llama-8b".
        digest: the digest of its plan, 64 hexadecimal digits: another plan of this name is an
            error. None takes the plan that the name has now. Ranks of one job must pass one
            digest, since the model may change between their calls.
        seed: the seed of the values, 0..2^64-1, where the model leaves it open; the digest is
            that of the plan with this seed. None means the plan's own seed.

    Raises:
        TypeError, ValueError: for a name that is empty or no text, a digest of another form, or a
            seed that no plan can have.
    """

    name: str
    digest: str | None = None
    seed: int | None = None

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
        if self.seed is not None:
            # A plan takes integers of any library.
            object.__setattr__(self, "seed", Plan({}, self.seed).seed)
            seed: object = self.seed
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
                raise ValueError(f"seed is {seed!r}; it must be an integer within 0..2^64-1")

    def with_seed(self, seed: int | None) -> Model:
        """The same model with a seed; itself if the seed is None.

        Raises:
            ValueError: if the model has another seed.
        """
        if seed is None:
            return self
        if self.seed not in (None, seed):
            raise ValueError(
                f"the seed is {seed!r}, and the model {self.name!r} has the seed {self.seed}; give "
                "one of them"
            )
        return replace(self, seed=seed)


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
