"""The models of a server: plans by name, as their files are now."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from initcore import layout
from initcore.machine import settled
from initcore.show import printable
from initcore.wire import parse_plan, to_proto

from initserver.config import Limits
from initserver.models.listing import files_beside, list_models
from initserver.net import WatchedFiles
from initserver.wire import PlanBytes, Refusal, check_header

_LOG = logging.getLogger("initserver")

# Seconds between two looks at the folder.
_EVERY = 1.0

# Characters of a client's name that an answer repeats.
_SHOWN = 100


@dataclass(frozen=True)
class Model:
    """A plan with a name.

    Attributes:
        name: NAME or ORG/NAME.
        path: the plan file.
        plan: the plan.
        digest: its digest.
        size: bytes of its file.
        tensors: how many tensors it has.
    """

    name: str
    path: str
    plan: PlanBytes
    digest: str
    size: int
    tensors: int


class Models:
    """The models below a folder, which is looked at again when it is used, once a second.

    A model whose files change is read again. While they cannot be used (half-written, wrong),
    the model stays as it was, and the log says why. Of a model that changed, the version before
    stays too, by its digest, so that running downloads may continue.

    Args:
        folder: where they are.
        limits: larger plans are refused.

    Raises:
        ValueError: if the folder cannot be read, or has too many models. Begins with "models".
    """

    def __init__(self, folder: str, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        self._watched: dict[str, WatchedFiles[Model]] = {}
        self._models: dict[str, Model] = {}
        self._before: dict[str, Model] = {}
        self._missing: set[str] = set()
        self._reported: dict[str, str] = {}
        try:
            self._look(starts=True)
        except OSError as error:
            raise ValueError(f"models is {folder!r}; it cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"models is {folder!r}; {error}") from None
        self._looked_at = time.monotonic()

    def all(self) -> list[Model]:
        """The models in the order of their names."""
        return [model for _, model in sorted(self._current().items())]

    def get(self, name: str, digest: str = "") -> Model:
        """The model of a name.

        Args:
            name: its name.
            digest: the digest that its plan must have; "" for any.

        Raises:
            Refusal: if there is no such model, or its plan has another digest.
        """
        model = self._current().get(name)
        if model is None:
            raise unknown_model(name)
        before = self._before.get(name)
        if digest and digest != model.digest and before is not None and before.digest == digest:
            return before
        if digest and digest != model.digest:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "MODEL_CHANGED",
                f"the model {name!r} has the plan {model.digest} here, and the request expects "
                f"{printable(digest, _SHOWN)}; take the digest that the model has now, or its plan",
                {"model": name, "expected_digest": digest, "plan_digest": model.digest},
            )
        return model

    def files(self, model: Model) -> list[tuple[str, int]]:
        """Names and sizes of the files beside a model's plan."""
        return files_beside(model.path, self._folder)

    def _current(self) -> dict[str, Model]:
        # While one caller looks, the others take the models as they were.
        if time.monotonic() - self._looked_at >= _EVERY and self._lock.acquire(blocking=False):
            try:
                self._look()
            except (OSError, ValueError) as error:
                self._report("", f"{self._folder!r} cannot be read, so the models stay: {error}")
            finally:
                self._looked_at = time.monotonic()
                self._lock.release()
        return self._models

    def _look(self, starts: bool = False) -> None:
        listing = list_models(self._folder)
        for name, reason in listing.refused.items():
            self._report(name, reason)
        found: dict[str, Model] = {}
        for name, path in listing.plans.items():
            model = self._read(name, path, starts)
            if model is not None:
                found[name] = model
                old = self._models.get(name)
                if old is not None and old.digest != model.digest:
                    self._before[name] = old
        gone = self._models.keys() - found.keys()
        for name in gone:
            # A refused file, or one that is missing for a moment, leaves the model as it was.
            if name in listing.refused or name not in self._missing:
                found[name] = self._models[name]
            else:
                self._watched.pop(name, None)
                self._before.pop(name, None)
                _LOG.info("the model %s is gone", name)
        self._missing = set(gone) - set(listing.refused)
        self._models = found

    def _read(self, name: str, path: str, starts: bool) -> Model | None:
        watched = self._watched.get(name)
        if watched is not None:
            return watched.current()
        try:
            # The beginning of a plan may be a plan too.
            if not starts and not settled([path]):
                return None
            watched = WatchedFiles(
                f"the plan of the model {name}",
                [path],
                lambda contents: self._load(name, path, contents),
            )
        except (OSError, ValueError) as error:
            self._report(name, f"its plan cannot be used: {error}")
            return None
        self._watched[name] = watched
        self._reported.pop(name, None)
        return watched.current()

    def _load(self, name: str, path: str, contents: Sequence[bytes]) -> Model:
        plan = parse_plan(contents[0].decode(), source=path)
        try:
            found = layout(plan, self._limits.max_matrix_elements)
            check_header(len(found.header), self._limits)
        except Refusal as refusal:
            raise ValueError(refusal.details) from None
        message = to_proto(plan).SerializeToString()
        limit = self._limits.max_request_bytes
        if len(message) > limit:
            raise ValueError(f"it has {len(message)} bytes; this server takes {limit} at most")
        return Model(name, path, PlanBytes(message), found.digest, found.size, len(found.entries))

    def _report(self, name: str, reason: str) -> None:
        """Logs why a model is not served, once for each reason."""
        if self._reported.get(name) != reason:
            self._reported[name] = reason
            _LOG.error("the model %s is not read: %s", name, reason)


def unknown_model(name: str) -> Refusal:
    """The refusal of a name that no model has."""
    shown = printable(name, _SHOWN)
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        "MODEL_UNKNOWN",
        f"this server has no model {shown!r}; ListModels (initclient models) lists those that "
        "it has",
        {"model": shown},
    )
