"""Descriptions: a resolved plan as plain values, tensor by tensor."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from typing import Any

from initcore._version import STREAM_VERSION
from initcore.file import Entry, Fingerprint, Layout
from initcore.resolve import Applied, Pretrained, Resolved
from initcore.show.remarks import remarks


@dataclass(frozen=True)
class TensorDescription:
    """A resolved tensor: all defaults filled in and all parameters computed.

    Attributes:
        name: its name in the file.
        dtype: its element type, by its name in safetensors files.
        shape: shape of the whole tensor.
        shard_shape: shape of the part that the plan asks for.
        scheme: its scheme.
        begin: position of its first byte in the file.
        end: position past its last byte.
        fan_in: inputs of one output, for schemes with fans.
        fan_out: outputs of one input, for schemes with fans.
        mean: mean of the distribution, where there is one.
        std: its standard deviation; before truncation, where there is one.
        low: lower bound of the values, where there is one.
        high: upper bound of the values, where there is one.
        fingerprint: of the part that the plan asks for, 32 hexadecimal digits, where it was
            asked for.
        parts: what a composed tensor is made of. They have no place in the file: `begin` is 0,
            `end` their number of bytes.
        origin: where the values of `pretrained` come from, as CHECKPOINT:TENSOR.
        zero_rows: how many positions of the first dimension are zero.
        function: what `apply` computes of its part, with its numbers: "log", "clamp(a=-1, b=1)".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard_shape: tuple[int, ...]
    scheme: str
    begin: int
    end: int
    fan_in: float | None = None
    fan_out: float | None = None
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    fingerprint: str | None = None
    parts: tuple[TensorDescription, ...] = ()
    origin: str | None = None
    zero_rows: int = 0
    function: str | None = field(default=None, kw_only=True)

    @property
    def nbytes(self) -> int:
        """Bytes of the part that the plan asks for."""
        return self.end - self.begin

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON; what does not apply is None."""
        form = dict(zip(_NAMES, _values(self), strict=True))
        form["parts"] = tuple([part.to_dict() for part in self.parts])
        return form


_NAMES = tuple(TensorDescription.__dataclass_fields__)
_values = attrgetter(*_NAMES)


@dataclass(frozen=True)
class Description:
    """What a plan resolves to.

    As text, `str(description)`, it is the table that `initclient describe` prints; notebooks show
    it as an HTML table.

    Attributes:
        digest: the plan's digest: equal exactly for plans of the same file.
        size: bytes of the whole file, header included.
        stream_version: version of the bit contract.
        warnings: unusual but allowed settings, as sentences.
        tensors: the tensors in the plan's order.
        remarks: settings that are allowed but may be mistakes, as sentences.
        checkpoints: the folder in which all tensors that the plan takes from checkpoints were
            found, with the plan's names, shapes, element types and SHA-256s; None if it was not
            checked.
        provenance: where the plan came from, as text by key.
    """

    digest: str
    size: int
    stream_version: int
    warnings: tuple[str, ...]
    tensors: tuple[TensorDescription, ...]
    remarks: tuple[str, ...] = ()
    checkpoints: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def __str__(self) -> str:
        from initcore.show.table import print_description

        text = io.StringIO()
        print_description(self, text)
        return text.getvalue().removesuffix("\n")

    def _repr_html_(self) -> str:
        from initcore.show.html import html_table

        return html_table(self)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON; what does not apply is None."""
        form = asdict(replace(self, tensors=(), provenance=dict(self.provenance)))
        form["tensors"] = tuple([tensor.to_dict() for tensor in self.tensors])
        return form

    def with_fingerprints(self, found: Sequence[Fingerprint]) -> Description:
        """The same with the tensors' fingerprints, which are given in order."""
        tensors = zip(self.tensors, found, strict=True)
        return replace(
            self, tensors=tuple(replace(tensor, fingerprint=str(f)) for tensor, f in tensors)
        )


def from_layout(layout: Layout) -> Description:
    """The description of a plan, resolved in this process."""
    return Description(
        digest=layout.digest,
        size=layout.size,
        stream_version=STREAM_VERSION,
        warnings=layout.warnings,
        tensors=tuple(_from_entry(entry) for entry in layout.entries),
        remarks=remarks(entry.tensor for entry in layout.entries),
        provenance=layout.plan.provenance,
    )


def _from_entry(entry: Entry) -> TensorDescription:
    return _from_tensor(entry.tensor, entry.begin, entry.end)


def _from_tensor(tensor: Resolved, begin: int, end: int) -> TensorDescription:
    parameters = tensor.parameters
    origin = None
    if isinstance(tensor.content, Pretrained):
        origin = f"{tensor.content.checkpoint}:{tensor.content.source}"
    return TensorDescription(
        name=tensor.name,
        dtype=tensor.dtype.name,
        shape=tensor.shape,
        shard_shape=tensor.shard_shape,
        scheme=tensor.scheme,
        begin=begin,
        end=end,
        parts=tuple(_from_tensor(part, 0, part.nbytes) for part in tensor.parts),
        origin=origin,
        zero_rows=len(tensor.zero_rows),
        fan_in=_real(parameters.fan_in),
        fan_out=_real(parameters.fan_out),
        mean=_real(parameters.mean),
        std=_real(parameters.std),
        low=_real(parameters.low),
        high=_real(parameters.high),
        function=_function(tensor.content),
    )


def _function(content: object) -> str | None:
    if not isinstance(content, Applied):
        return None
    numbers = {"a": content.a, "b": content.b}
    given = ", ".join(f"{name}={value:g}" for name, value in numbers.items() if value is not None)
    return f"{content.function}({given})" if given else content.function


def _real(value: float | None) -> Any:
    return None if value is None else float(value)
