"""The dates between which a certificate is valid, read from its PEM text.

The standard library has no public function for that. The two dates stand at a fixed place near
the beginning (RFC 5280, section 4.1), so a few lines that read DER take the place of a library.
"""

from __future__ import annotations

import binascii
from datetime import UTC, datetime

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


def validity(pem: bytes) -> tuple[datetime, datetime]:
    """The first and the last moment at which a chain's first certificate is valid.

    Raises:
        ValueError: if the text holds no certificate.
    """
    begin, end = pem.find(_BEGIN), pem.find(_END)
    if begin < 0 or end < begin:
        raise ValueError("it holds no complete certificate in PEM form")
    try:
        der = binascii.a2b_base64(pem[begin + len(_BEGIN) : end])
        _, certificate, _ = _element(der)
        _, to_be_signed, _ = _element(certificate)
        tag, _, rest = _element(to_be_signed)
        if tag == _VERSION:
            _, _, rest = _element(rest)  # the serial number
        _, _, rest = _element(rest)  # the signature's algorithm
        _, _, rest = _element(rest)  # the issuer
        tag, dates, _ = _element(rest)
        if tag != _SEQUENCE:
            raise ValueError
        tag_before, not_before, rest = _element(dates)
        tag_after, not_after, _ = _element(rest)
        return _time(tag_before, not_before), _time(tag_after, not_after)
    except (ValueError, IndexError):
        raise ValueError("its first certificate is damaged") from None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and contents of the first element, and the bytes after it."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError
    return tag, data[start : start + length], data[start + length :]


def _time(tag: int, text: bytes) -> datetime:
    # Two digits of a year mean 1950..2049; Python's %y agrees from 1969 on.
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
