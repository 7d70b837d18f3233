"""Requests over HTTP: paths as the Hub has them, ranges of bytes, and conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from initserver.hub.answers import HubError

LIST, MODEL, TREE, PATHS, REFS = "list", "model", "tree", "paths-info", "refs"
RESOLVE, HOME, PAGE, PLOT, UNKNOWN = "resolve", "home", "page", "plot", "unknown"

# Kinds of requests below /api/models/NAME.
_API = {"revision": MODEL, "tree": TREE, "paths-info": PATHS, "refs": REFS}

# Where the page of figures is. No name of a model begins with a dash.
_PLOT = "-"

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """The resource that a path names.

    Attributes:
        kind: LIST, MODEL and so on.
        model: the name of a model, "" for none.
        revision: the revision, as the path has it.
        path: the path of a file or a folder in the model, "" for none.
    """

    kind: str
    model: str = ""
    revision: str = "main"
    path: str = ""


def parse_target(raw: str) -> Target:
    """The resource of a request's target, percent-encoded and with its query."""
    path = raw.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):
        # The absolute form, which proxies may use.
        path = "/" + re.sub(r"^[a-z]+://[^/]*/?", "", path, flags=re.IGNORECASE)
    parts = [unquote(part, errors="replace") for part in path[1:].split("/")]
    if parts == [""]:
        return Target(HOME)
    if parts[:2] == ["api", "models"]:
        return _api(parts[2:])
    if parts[0] == _PLOT and len(parts) in (3, 4) and parts[1] == "plot":
        return Target(PLOT, "/".join(parts[2:]))
    for length in (2, 1):
        if len(parts) > length + 2 and parts[length] in ("resolve", "raw"):
            name, rest = "/".join(parts[:length]), parts[length + 1 :]
            return Target(RESOLVE, name, rest[0], "/".join(rest[1:]))
    if len(parts) <= 2 and parts[0] != "api":
        return Target(PAGE, "/".join(parts).rstrip("/"))
    return Target(UNKNOWN)


def _api(parts: list[str]) -> Target:
    if parts in ([], [""]):
        return Target(LIST)
    for length in (2, 1):
        if len(parts) > length and parts[length] in _API:
            name, kind, rest = "/".join(parts[:length]), _API[parts[length]], parts[length + 1 :]
            if kind == REFS:
                return Target(kind, name)
            if rest:
                return Target(kind, name, rest[0], "/".join(rest[1:]).strip("/"))
    if len(parts) <= 2:
        return Target(MODEL, "/".join(parts))
    return Target(UNKNOWN)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte of a range and the one past the last; None if everything is asked for.

    Args:
        header: the header Range.
        size: bytes of the file.

    Raises:
        HubError: if it asks for no bytes of the file, for several ranges, or is malformed.
    """
    if header is None or not header.strip().lower().startswith("bytes"):
        # Other units are to be ignored.
        return None
    found = _RANGE.fullmatch(header.strip())
    first, last = found.groups() if found else ("", "")
    if first:
        begin, end = int(first), min(int(last) + 1, size) if last else size
    elif last:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = size, size
    if begin >= end:
        raise HubError(
            416,
            f"the range {header[:60]!r} cannot be served from a file of {size} bytes; ask for one "
            "range, as bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return begin, end


def has_etag(header: str | None, etag: str, *, strong: bool = False) -> bool:
    """Whether a list of entity tags names this one; * names all.

    Args:
        header: the header If-Match or If-None-Match.
        etag: the tag, without quotes.
        strong: weak tags do not count, as RFC 9110 has it for If-Match.
    """
    if header is None:
        return False
    tags = [tag.strip() for tag in header.split(",")]
    if not strong:
        tags = [tag.removeprefix("W/") for tag in tags]
    return "*" in tags or f'"{etag}"' in tags
