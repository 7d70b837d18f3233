"""Finds the models below a folder: names, plan files, and the files beside them.

Nothing outside the folder is read: a link may point only to a place within it, as the links of
a mounted ConfigMap do. Devices, pipes and sockets are no files here.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PLAN_FILE = "plan.yaml"

# The Hub's rules: letters, digits, dots, dashes and underscores, at most 96 of them.
_NAME = re.compile(r"(?!.*(?:\.\.|--))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")

# A plan file takes about four times the bytes of its message.
MOST_PLAN_BYTES = 64 << 20

MOST_MODELS = 10_000
MOST_ENTRIES = 100_000
# Files beside one plan.
MOST_FILES = 100


@dataclass
class Listing:
    """The models below a folder at one moment.

    Attributes:
        plans: the path of each model's plan file, by the model's name, in the names' order.
        refused: why other folders with a plan file are no models, by their names.
        unread: why the models below an entry of the folder are not known, by its name.
    """

    plans: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def list_models(folder: str) -> Listing:
    """The models below a folder: NAME/plan.yaml or ORG/NAME/plan.yaml.

    Raises:
        OSError: if the folder cannot be read.
        ValueError: if it has too many entries or models.
    """
    root = os.path.realpath(folder)
    found, seen = Listing(), 0
    # Paths begin with the folder as it was given: it may be a link that another version replaces.
    tops, found.unread = _folders(folder)
    for top in tops:
        seen += 1
        if _add(found, root, top.name, top.path, top.is_symlink()):
            continue
        if top.is_symlink() and not _is_within(top.path, root):
            found.unread[top.name] = "it is a link that leads out of the folder"
            continue
        try:
            inners, broken = _folders(top.path)
        except OSError as error:
            found.unread[top.name] = f"it cannot be read: {error.strerror}"
            continue
        found.refused |= {f"{top.name}/{name}": reason for name, reason in broken.items()}
        for inner in inners:
            seen += 1
            if seen > MOST_ENTRIES:
                raise ValueError(f"it has more than {MOST_ENTRIES} folders in two levels")
            is_link = top.is_symlink() or inner.is_symlink()
            _add(found, root, f"{top.name}/{inner.name}", inner.path, is_link)
    if len(found.plans) > MOST_MODELS:
        raise ValueError(f"it has {len(found.plans)} models; a server takes {MOST_MODELS}")
    return found


def files_beside(plan_path: str, folder: str) -> list[tuple[str, int]]:
    """Names and sizes of the files beside a plan, in the order of their names.

    One more than `MOST_FILES` at most: nothing looks at all files of a huge folder.

    Args:
        plan_path: the plan file.
        folder: the folder of all models.
    """
    root, place = os.path.realpath(folder), os.path.dirname(plan_path)
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(place)):
            if name == PLAN_FILE or not _NAME.fullmatch(name):
                continue
            path = os.path.join(place, name)
            with suppress(OSError):
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode) and _is_within(path, root):
                    found.append((name, status.st_size))
            if len(found) > MOST_FILES:
                break
    return found


def file_beside(plan_path: str, folder: str, name: str) -> str | None:
    """The path of one file beside a plan, or None.

    Args:
        plan_path: the plan file.
        folder: the folder of all models; a link that leads out of it is no file.
        name: the file's name.
    """
    path = os.path.join(os.path.dirname(plan_path), name)
    return path if os.path.isfile(path) and _is_within(path, os.path.realpath(folder)) else None


def _folders(place: str) -> tuple[list[os.DirEntry[str]], dict[str, str]]:
    """The folders in a folder, in the order of their names, without hidden ones.

    Returns:
        The folders, and why other entries cannot be followed, by their names.
    """
    found: list[os.DirEntry[str]] = []
    broken: dict[str, str] = {}
    with os.scandir(place) as entries:
        for entry in entries:
            if len(found) > MOST_ENTRIES:
                raise ValueError(f"it has more than {MOST_ENTRIES} folders in two levels")
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    found.append(entry)
            except OSError as error:
                # Such as a link to itself.
                broken[entry.name] = f"it cannot be read: {error.strerror}"
    return sorted(found, key=lambda entry: entry.name), broken


def _add(found: Listing, root: str, name: str, place: str, is_link: bool) -> bool:
    """Adds the model in a folder; whether the folder has a plan file.

    Args:
        found: gets the model, or the reason why it is none.
        root: the folder of all models, without links.
        name: the model's name.
        place: its folder.
        is_link: whether the way to the folder has a link in it.
    """
    path = os.path.join(place, PLAN_FILE)
    try:
        # Once for each model, as often as the folder is looked at.
        status = os.lstat(path)
    except OSError:
        return False
    reason = _wrong(root, name, path, is_link, status)
    if reason:
        found.refused[name] = reason
    else:
        found.plans[name] = path
    return True


def _wrong(root: str, name: str, path: str, is_link: bool, status: os.stat_result) -> str:
    """Why a plan file is not served; "" if it is.

    Args:
        root: the folder of all models, without links.
        name: the model's name.
        path: the plan file.
        is_link: whether the way to the plan file's folder has a link in it.
        status: of the file, or of the link that it is.
    """
    if not all(_NAME.fullmatch(part) for part in name.split("/")):
        return (
            f"the name {name!r} has other characters than letters, digits and ._- (no two dots "
            "or dashes in a row), or more than 96; rename the folder"
        )
    # Links are rare, and to follow one takes a system call for each part of the path.
    if is_link or stat.S_ISLNK(status.st_mode):
        if not _is_within(path, root):
            return f"{path} is a link that leads out of the folder; copy the file"
        try:
            status = os.stat(path)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    if status.st_size > MOST_PLAN_BYTES:
        return f"{path} has {status.st_size} bytes; a plan file may have {MOST_PLAN_BYTES}"
    return ""


def _is_within(path: str, root: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)
