"""The plan's digest: two plans have the same digest exactly if they have the same file.

docs/stream-v1.md, section "Digest", gives the canonical form.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from initcore.resolve import Resolved

# Tensors whose text is hashed at once, and characters after which it is hashed in any case.
# hashlib releases the interpreter while it hashes. A thread that waits for the interpreter demands
# it after 5 ms; each release starts these 5 ms anew, and most often ends before the other thread
# has woken up. With 64 tensors, a release every 0.5 ms, other threads waited for 0.3 s. The texts
# of 4096 tensors take longer than 5 ms.
_TOGETHER, _LONG = 4096, 1 << 21

# Kinds of tensors whose text is cached while a plan is written.
_MAX_KINDS = 1024

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode

encode_text: Callable[[str], str] = json.encoder.encode_basestring
"""Text as the encoder above writes it, at a tenth of the cost."""


def plan_digest(seed: int, tensors: Sequence[Resolved]) -> str:
    """SHA-256 of the plan in canonical form, as 64 hexadecimal digits.

    Args:
        seed: the plan's seed, which the file's metadata holds.
        tensors: the resolved tensors, in the plan's order.
    """
    digest = hashlib.sha256(f'{{"format":"initserve.v1","seed":{seed},"tensors":['.encode())
    comma = ""
    for text in _joined(map(_Texts().of, tensors)):
        digest.update((comma + text).encode())
        comma = ","
    digest.update(b"]}")
    return digest.hexdigest()


def _joined(texts: Iterable[str]) -> Iterator[str]:
    """Some texts at a time, with commas, so that that of a large plan never exists as a whole."""
    some: list[str] = []
    length = 0
    for text in texts:
        some.append(text)
        length += len(text)
        if len(some) >= _TOGETHER or length >= _LONG:
            yield ",".join(some)
            some, length = [], 0
    if some:
        yield ",".join(some)


class _Texts:
    """Writes tensors in canonical form, as JSON with sorted keys.

    Models repeat their layers, so the text around a tensor's names is cached by its other fields.
    """

    def __init__(self) -> None:
        # By all fields but the names; the arguments by identity, since resolution shares them.
        self._around: dict[Any, tuple[str, str]] = {}

    def of(self, tensor: Resolved) -> str:
        """The text of one tensor."""
        kind = (
            id(tensor.arguments),
            tensor.bounds,
            tensor.dtype.name,
            tensor.scheme,
            tensor.seed,
            tensor.shape,
        )
        before, between = self._around.get(kind) or self._kept(kind, tensor)
        name = encode_text(tensor.name)
        stream = name if tensor.stream_name == tensor.name else encode_text(tensor.stream_name)
        # Keys only where they are used: the digests of plans without them are older than the keys.
        if tensor.parts:
            inner = ",".join([self.of(part) for part in tensor.parts])
            between = f',"parts":[{inner}]{between}'
        if tensor.zero_rows:
            stream += f',"zero_rows":{_encode(tensor.zero_rows)}'
        return f"{before}{name}{between}{stream}}}"

    def _kept(self, kind: Any, tensor: Resolved) -> tuple[str, str]:
        if len(self._around) >= _MAX_KINDS:
            self._around.clear()
        first = {
            "arguments": {name: _value(value) for name, value in tensor.arguments.items()},
            "bounds": tensor.bounds,
            "dtype": tensor.dtype.name,
            "name": "",
        }
        second = {"scheme": tensor.scheme, "seed": tensor.seed, "shape": tensor.shape, "stream": ""}
        # Both end with `""}`, where a name goes.
        self._around[kind] = texts = _encode(first)[:-3], "," + _encode(second)[1:-3]
        return texts


def _value(value: Any) -> Any:
    if isinstance(value, float):
        # The bits, since no two languages print doubles alike.
        return struct.pack(">d", value).hex()
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        text = struct.pack(f">{len(value)}d", *value).hex()
        return [text[at : at + 16] for at in range(0, len(text), 16)]
    return value
