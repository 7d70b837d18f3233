"""Laws: the distributions of draws, and what affine arithmetic makes of them, in doubles."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

ROOT_TWO = math.sqrt(2.0)

# The least draw of a plan's uniform on [0, 1) (docs/stream-v1.md, section 4).
_LEAST_UNIFORM = 2.0**-25

# Functions that take no zero.
_POSITIVE = ("log", "inverse_softplus", "reciprocal")

# A clamp that moves less than this share of the mass only tidies up rounding.
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Law:
    """The distribution of a tensor's elements."""

    @property
    def is_independent(self) -> bool:
        """Whether elements are independent and alike, so that any part of them has this law."""
        return True

    def affine(self, scale: float, shift: float) -> Law:
        """The law of `scale * x + shift`."""
        if scale == 1 and shift == 0:
            return self
        if scale == 0 and self.is_independent:
            return Constant(shift)
        return self._affine(scale, shift)

    def _affine(self, scale: float, shift: float) -> Law:
        return Derived(f"{scale:g} * x + {shift:g}", self)


@dataclass(frozen=True)
class Constant(Law):
    """Every element is val."""

    val: float | int | bool

    def _affine(self, scale: float, shift: float) -> Law:
        return Constant(self.val * scale + shift)


@dataclass(frozen=True)
class Normal(Law):
    """Normal with this mean and standard deviation."""

    mean: float = 0.0
    std: float = 1.0

    def _affine(self, scale: float, shift: float) -> Law:
        return Normal(self.mean * scale + shift, self.std * abs(scale))


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform on [a, b).

    What the framework's draws are besides does not tell two laws apart.

    Attributes:
        a: its lower bound.
        b: its upper bound.
        once_in: in how many draws the framework draws the bound that it draws; None for the
            number that it has for most element types.
        gaps: how far from a, and from b, the framework's nearest draw between them lies; 0 where
            that is no farther than in a plan.
        is_open_below: whether the framework draws b and never a, as in 1 - u.
    """

    a: float = 0.0
    b: float = 1.0
    once_in: int | None = field(default=None, compare=False)
    gaps: tuple[float, float] = field(default=(0.0, 0.0), compare=False)
    is_open_below: bool = field(default=False, compare=False)

    def _affine(self, scale: float, shift: float) -> Law:
        low, high = sorted((self.a * scale + shift, self.b * scale + shift))
        gap_a, gap_b = (gap * abs(scale) for gap in self.gaps)
        gaps = (gap_a, gap_b) if scale > 0 else (gap_b, gap_a)
        return Uniform(low, high, self.once_in, gaps, self.is_open_below != (scale < 0))


@dataclass(frozen=True)
class Truncated(Law):
    """Normal with this mean and standard deviation, cut to [a, b]."""

    mean: float
    std: float
    a: float
    b: float

    def _affine(self, scale: float, shift: float) -> Law:
        low, high = sorted((self.a * scale + shift, self.b * scale + shift))
        return Truncated(self.mean * scale + shift, self.std * abs(scale), low, high)


@dataclass(frozen=True)
class Whole(Law):
    """A law of whole matrices: a part of one has another law."""

    @property
    def is_independent(self) -> bool:
        """False: the elements depend on each other."""
        return False


@dataclass(frozen=True)
class Orthogonal(Whole):
    """gain times a Haar-distributed matrix with orthonormal rows or columns."""

    gain: float = 1.0

    def _affine(self, scale: float, shift: float) -> Law:
        if shift or not scale:
            return super()._affine(scale, shift)
        # The negative of such a matrix has the same distribution.
        return Orthogonal(self.gain * abs(scale))


@dataclass(frozen=True)
class Arranged(Whole):
    """A law of matrices whose elements are in another order, such as a kernel of a convolution.

    Attributes:
        law: the law of the matrix.
        shape: the matrix's shape.
        steps: from the matrix to here: ("permute", axes) or ("reshape", shape).
    """

    law: Law
    shape: tuple[int, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def _affine(self, scale: float, shift: float) -> Law:
        law = self.law.affine(scale, shift)
        return Derived(f"{scale:g} * x + {shift:g}", self) if shift else replace(self, law=law)


@dataclass(frozen=True)
class Sparse(Whole):
    """Normal with mean 0, and a share of zeros in each column."""

    sparsity: float
    std: float = 0.01

    def _affine(self, scale: float, shift: float) -> Law:
        if shift or not scale:
            return super()._affine(scale, shift)
        return Sparse(self.sparsity, self.std * abs(scale))


@dataclass(frozen=True)
class Eye(Whole):
    """gain on the diagonal of a matrix."""

    gain: float = 1.0

    def _affine(self, scale: float, shift: float) -> Law:
        return super()._affine(scale, shift) if shift else Eye(self.gain * scale)


@dataclass(frozen=True)
class Dirac(Whole):
    """The convolution that copies its input."""

    groups: int = 1


@dataclass(frozen=True)
class Values(Whole):
    """Numbers that no draw takes part in, row by row."""

    numbers: tuple[float | int, ...]


@dataclass(frozen=True)
class Applied(Law):
    """A function of draws that a plan computes.

    Attributes:
        function: its name, as `initcore.apply` has it.
        law: the law of the draw.
        a: the number of add and multiply, and the lower bound of clamp.
        b: the upper bound of clamp.
        is_guard: whether it is a clamp of the plan's own, which keeps the value that only the
            framework draws out of a function's domain.
    """

    function: str
    law: Law
    a: float | None = None
    b: float | None = None
    is_guard: bool = False

    @property
    def is_independent(self) -> bool:
        """As the law of the draw."""
        return self.law.is_independent

    def _affine(self, scale: float, shift: float) -> Law:
        # Steps of one kind are one step, since a plan nests at most eight tensors.
        x: Law = self
        by, plus = 1.0, 0.0
        if isinstance(x, Applied) and x.function == "add":
            plus = x.a or 0.0
            x = x.law
        if isinstance(x, Applied) and x.function == "multiply":
            by = x.a or 0.0
            x = x.law
        by, plus = by * scale, plus * scale + shift
        scaled = x if by == 1 else Applied("multiply", x, by)
        return Applied("add", scaled, plus) if plus else scaled


@dataclass(frozen=True)
class Other(Law):
    """A distribution that no scheme has, by its name in torch."""

    name: str


@dataclass(frozen=True)
class Derived(Law):
    """A function of draws that no plan computes.

    Attributes:
        function: the function, as text in which x stands for the draw.
        law: the law of the draw.
    """

    function: str
    law: Law

    @property
    def is_independent(self) -> bool:
        """As the law of the draw."""
        return self.law.is_independent


def through_erfinv(law: Law) -> Law:
    """The law of `erfinv(x)`: for a uniform x, a normal cut to an interval.

    The inverse of the normal distribution function is sqrt(2) erfinv(2 p - 1).
    """
    if isinstance(law, Uniform) and -1 <= law.a < law.b <= 1:
        return Truncated(0.0, 1 / ROOT_TWO, _erfinv(law.a), _erfinv(law.b))
    return Derived("erfinv(x)", law)


def through_clamp(law: Law, low: float, high: float) -> Law:
    """The law of x cut off at low and high, if that cuts off next to nothing.

    A clamp that moves more of the mass gives values that repeat: it is a censored distribution,
    not a truncated one, and remains a clamp.
    """
    moved = _outside(law, low, high)
    if moved is not None and moved < _NEGLIGIBLE:
        if isinstance(law, Truncated):
            a = low if _is_close(law.a, low, law.std) else max(law.a, low)
            b = high if _is_close(law.b, high, law.std) else min(law.b, high)
            return replace(law, a=a, b=b)
        if isinstance(law, Normal):
            return Truncated(law.mean, law.std, low, high)
        if isinstance(law, Uniform):
            # A logarithm that follows must find no value that the clamp has moved.
            return replace(law, a=max(law.a, low), b=min(law.b, high))
        return law
    return Applied("clamp", law, _bound(low), _bound(high))


def through_function(law: Law, function: str, a: float | None = None) -> Law:
    """The law of a function of x that a plan computes, by its name in `initcore.apply`.

    torch draws the lower bound of a uniform law once in 2^24 numbers of float32, and JAX once in
    2^23; a plan's uniform draws never do. Where only this bound, 0, is outside the domain, a clamp
    to the least draw is put before the function, which says of the plan that no value is outside.
    Where it is -1 before log1p, as in -log1p(-u), the exponential distribution, the plan draws the
    opposite: a uniform below 1, times -1, is above -1.

    Draws of 16 bits keep a distance from a bound. A clamp to this distance keeps the function's
    values as near as the framework's: -log(1 - u) is at most 5.55 in bfloat16.
    """
    if function in _POSITIVE and isinstance(law, Uniform) and law.a == 0 < law.b:
        least = max(law.b * _LEAST_UNIFORM, law.gaps[0])
        law = Applied("clamp", law, least, is_guard=not law.is_open_below)
    if function == "log1p" and isinstance(law, Uniform) and law.a == -1 < law.b:
        gap = law.gaps[0]
        law = Applied("multiply", Uniform(-law.b, 1.0), -1.0)
        law = Applied("clamp", law, gap - 1) if gap else law
    return Applied(function, law, a)


def law_text(law: Law) -> str:
    """A law for people, such as "normal(mean=0, std=0.02)" or "log(uniform(a=1, b=16))"."""
    if isinstance(law, Values):
        some = ", ".join(f"{number:.6g}" for number in law.numbers[:4])
        return f"values({some}{', ...' if len(law.numbers) > 4 else ''})"
    if isinstance(law, Arranged):
        steps = "".join(f" as {name} {list(sizes)}" for name, sizes in law.steps)
        return f"{law_text(law.law)} of {list(law.shape)}{steps}"
    if isinstance(law, Derived):
        return re.sub(r"\bx\b", law_text(law.law), law.function, count=1)
    if isinstance(law, Applied):
        numbers = {"a": law.a, "b": law.b}
        given = [f"{name}={value:g}" for name, value in numbers.items() if value is not None]
        return f"{law.function}({', '.join([law_text(law.law), *given])})"
    names = [name for name, one in law.__dataclass_fields__.items() if one.compare]
    inner = [
        law_text(value)
        if isinstance(value, Law)
        else f"{name}={value:g}"
        if isinstance(value, float)
        else f"{name}={value}"
        if not isinstance(value, str)
        else value
        for name in names
        if (value := getattr(law, name)) is not None
    ]
    kind = type(law).__name__.lower()
    return f"{kind}({', '.join(inner)})"


def _bound(value: float) -> float | None:
    return None if math.isinf(value) else value


def _is_close(one: float, other: float, std: float) -> bool:
    return abs(one - other) <= _NEGLIGIBLE * std


def _outside(law: Law, low: float, high: float) -> float | None:
    """The share of a law's mass outside [low, high]; None if it is not known."""
    if isinstance(law, Uniform):
        inside = min(law.b, high) - max(law.a, low)
        return 1 - max(0.0, inside) / (law.b - law.a)
    if isinstance(law, Normal):
        return _below(low, law) + _above(high, law)
    if isinstance(law, Truncated):
        whole = _between(law.a, law.b, law)
        if whole <= 0:
            return None
        cut = _between(law.a, max(low, law.a), law) + _between(min(high, law.b), law.b, law)
        return cut / whole
    return None


def _below(value: float, law: Normal | Truncated) -> float:
    return 0.5 * math.erfc((law.mean - value) / (law.std * ROOT_TWO))


def _above(value: float, law: Normal | Truncated) -> float:
    return 0.5 * math.erfc((value - law.mean) / (law.std * ROOT_TWO))


def _between(low: float, high: float, law: Normal | Truncated) -> float:
    if low >= high:
        return 0.0
    # From the nearer tail, where a difference keeps its digits.
    if low >= law.mean:
        return _above(low, law) - _above(high, law)
    return _below(high, law) - _below(low, law)


def _erfinv(value: float) -> float:
    """The inverse of the error function, by Newton's method from a rational start.

    Only the bounds of a recorded law come from here, never an element of a stream.
    """
    if abs(value) == 1:
        return math.copysign(math.inf, value)
    # Winitzki 2008, a start within 2e-3.
    log = math.log1p(-value * value)
    first = 2 / (math.pi * 0.147) + log / 2
    x = math.copysign(math.sqrt(math.sqrt(first * first - log / 0.147) - first), value)
    for _ in range(4):
        # From the complement near 1, where erf has no digits left.
        error = math.erf(x) - value
        if abs(value) >= 0.5:
            error = math.copysign(1.0, value) * ((1 - abs(value)) - math.erfc(abs(x)))
        x -= error / (2 / math.sqrt(math.pi) * math.exp(-x * x))
    # Libraries differ in the last digits, and plans of one model should not.
    return float(f"{x:.12g}")
