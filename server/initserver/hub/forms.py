"""The JSON of models, files and branches, in the form of the Hub's API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from initserver.hub.answers import ENTRY, HubError
from initserver.hub.revisions import RepoFile, Revision
from initserver.models import Model

MOST_BODY_BYTES = 1 << 20
_MOST_PATHS = 10_000


def model_list(models: Iterable[Model], query: str) -> list[dict[str, Any]]:
    """Models by name; `author`, `search` and `limit` of a query choose among them."""
    wanted = parse_qs(query)
    author = wanted.get("author", [""])[0]
    texts = [text.lower() for text in wanted.get("search", [])]
    limit = wanted.get("limit", [""])[0]
    found = [
        {"id": model.name, "modelId": model.name, **_public()}
        for model in models
        if (not author or model.name.startswith(f"{author}/"))
        and all(text in model.name.lower() for text in texts)
    ]
    return found[: int(limit)] if limit.isdecimal() and len(limit) < 10 else found


def model_info(revision: Revision) -> dict[str, Any]:
    """A model with the names and sizes of its files."""
    name = revision.model.name
    return {
        "id": name,
        "modelId": name,
        "author": name.rpartition("/")[0] or None,
        "sha": revision.commit,
        **_public(),
        "siblings": [
            {"rfilename": file.path, "size": file.size, "blobId": file.etag}
            for file in revision.files.values()
        ],
    }


def tree(revision: Revision, path: str) -> list[dict[str, Any]]:
    """The files of a folder; models have no folders in them.

    Raises:
        HubError: if there is no such folder.
    """
    if path:
        raise HubError(
            404, f"{revision.model.name} has no folder {path[:100]!r}", ENTRY, commit_of(revision)
        )
    return [_entry(file) for file in revision.files.values()]


def paths_info(revision: Revision, body: bytes, content_type: str) -> list[dict[str, Any]]:
    """The files of those paths that a body asks for, in JSON or as a form.

    Raises:
        HubError: if the body has another form.
    """
    paths: Any = None
    try:
        if "json" in content_type:
            form = json.loads(body)
            paths = form.get("paths") if isinstance(form, dict) else None
        else:
            paths = parse_qs(body.decode(), max_num_fields=_MOST_PATHS).get("paths", [])
    except (ValueError, RecursionError):
        paths = None
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise HubError(400, "the body has no list of paths; send {'paths': ['config.json']}")
    wanted = dict.fromkeys(paths[:_MOST_PATHS])
    return [_entry(revision.files[path]) for path in wanted if path in revision.files]


def refs(revision: Revision) -> dict[str, Any]:
    """The branches: there is one."""
    branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": revision.commit}
    return {"branches": [branch], "converts": [], "tags": [], "pullRequests": []}


def commit_of(revision: Revision) -> dict[str, str]:
    """The header that names the revision."""
    return {"X-Repo-Commit": revision.commit}


def _entry(file: RepoFile) -> dict[str, Any]:
    return {"type": "file", "oid": file.etag, "size": file.size, "path": file.path}


def _public() -> dict[str, Any]:
    return {
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
    }
