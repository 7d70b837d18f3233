"""The files beside a model's plan, at one moment: what a revision is made of, beside the plan.

A folder that is being changed gives nothing new: the plan on the disk is not the one in use yet,
or a file was written a moment ago. Then the model's last revision goes on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from initcore.machine import settled
from initcore.show import printable

from initserver.hub.answers import HubError
from initserver.models import (
    MOST_FILES,
    PLAN_FILE,
    SETTINGS_FILE,
    Blob,
    BlobChangedError,
    Model,
    Models,
    ModelSettings,
    blob_of,
    settings_of,
)

_LOG = logging.getLogger("initserver")

# Seconds between two looks at one folder.
_EVERY = 1.0

_Signature = tuple[int, ...]


class NotReadyError(Exception):
    """An answer takes long, and the caller does not wait for it."""


@dataclass(frozen=True)
class Folder:
    """A model and the files of its folder.

    Attributes:
        model: the model.
        settings: how it is served.
        blobs: the files by name, the plan among them.
    """

    model: Model
    settings: ModelSettings
    blobs: Mapping[str, Blob]


@dataclass(eq=False)
class _Known:
    """What is known of one model's folder.

    Attributes:
        lock: is held while somebody looks.
        folder: the folder as it was when it could be read last; None if it never could.
        model: the model for which the last look was.
        looked_at: when that look began.
        hashed: the files that have been hashed, each with its times and size at that moment.
        failure: why the folder is not read, "" if it is.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    folder: Folder | None = None
    model: Model | None = None
    looked_at: float = float("-inf")
    hashed: dict[str, tuple[_Signature, Blob]] = field(default_factory=dict)
    failure: str = ""


class Folders:
    """The folders of all models. Each is looked at again when it is used, once a second.

    Args:
        models: the models.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def get(self, name: str, *, again: bool = False, wait: bool = True) -> Folder:
        """The folder of a model.

        Args:
            name: the model's name.
            again: look at it, unless a look has begun since the call.
            wait: read all files if none has been read yet.

        Raises:
            Refusal: if there is no such model.
            HubError: if its files cannot be served now.
            NotReadyError: if this takes long, and the caller does not wait.
        """
        asked_at = time.monotonic()
        model = self._models.get(name)
        with self._lock:
            if name not in self._known and len(self._known) > 2 * len(self._models.all()):
                self._known.clear()
            known = self._known.setdefault(name, _Known())
        if known.folder is None and not wait:
            raise NotReadyError
        # While one caller looks, the others take the folder as it was.
        if known.lock.acquire(blocking=again or known.folder is None):
            try:
                now = time.monotonic()
                # One look serves all callers that asked before it began.
                is_recent = known.looked_at > (asked_at if again else now - _EVERY)
                if not (is_recent and known.model is model):
                    known.looked_at, known.model = now, model
                    self._look(known, model)
            finally:
                known.lock.release()
        if known.folder is None:
            raise _not_read(name, known.failure)
        return known.folder

    def _look(self, known: _Known, model: Model) -> None:
        try:
            found = self._read(known, model)
        except (FileNotFoundError, BlobChangedError):
            return
        except OSError as error:
            file = os.path.basename(error.filename or "") or "a file"
            reason = f"{file} cannot be read: {error.strerror}"
        except ValueError as error:
            reason = str(error)
        else:
            if found is not None:
                known.folder, known.failure = found, ""
            return
        if known.failure != reason:
            known.failure = reason
            _LOG.error(
                "the files of the model %s are not read: %s", printable(model.name, 100), reason
            )

    def _read(self, known: _Known, model: Model) -> Folder | None:
        place = os.path.dirname(model.path)
        files = self._models.files(model)
        if len(files) > MOST_FILES:
            raise ValueError(
                f"the folder has {len(os.listdir(place))} entries; a model may have {MOST_FILES} "
                "files beside its plan"
            )
        names = [PLAN_FILE, *(name for name, _ in files)]
        blobs, is_new = {}, False
        # A folder that has never been read is tried again and again: its files are hashed once.
        hashed = known.hashed if known.folder is None else {}
        for name in names:
            path = os.path.join(place, name)
            status = os.stat(path)
            signature = (
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_size,
                status.st_ino,
                status.st_dev,
            )
            before = known.hashed.get(name)
            is_young = not settled([path])
            if before is None or before[0] != signature or is_young:
                blob = blob_of(path)
                is_new |= is_young and (before is None or before[1].oid != blob.oid)
            else:
                blob = before[1]
            hashed[name], blobs[name] = (signature, blob), blob
        if blobs[PLAN_FILE].oid != model.file_id:
            return None
        if known.folder is not None:
            is_less = bool(known.folder.blobs.keys() - blobs.keys())
            # Somebody may still be writing, or about to write what was removed; a swapped link
            # brings files and folders that are old.
            if is_new or (is_less and not settled([place])):
                return None
        known.hashed = hashed
        return Folder(model, _settings(blobs), blobs)


def _settings(blobs: Mapping[str, Blob]) -> ModelSettings:
    blob = blobs.get(SETTINGS_FILE)
    return ModelSettings() if blob is None else settings_of(blob)


def _not_read(name: str, failure: str) -> HubError:
    if failure:
        return HubError(503, f"the model cannot be served: {failure}")
    return HubError(
        503,
        f"the files of the model {printable(name, 100)!r} are changing; ask again in a moment",
        headers={"Retry-After": "1"},
    )
