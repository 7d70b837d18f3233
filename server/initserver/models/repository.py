"""The models of a server: plans by name, as their files are now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from initcore import layout
from initcore.machine import settled
from initcore.show import printable
from initcore.wire import parse_plan, to_proto

from initserver.config import Limits
from initserver.models.blobs import BlobChangedError, blob_id, blob_of
from initserver.models.listing import file_beside, files_beside, list_models
from initserver.models.polling import Poller
from initserver.models.settings import SETTINGS_FILE, ModelSettings, settings_of
from initserver.net import WatchedFiles
from initserver.wire import PlanBytes, Refusal, check_header

_LOG = logging.getLogger("initserver")

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
        file_id: of the plan file's contents, as `blob_id` gives it.
    """

    name: str
    path: str
    plan: PlanBytes
    digest: str
    size: int
    tensors: int
    file_id: str


class Models:
    """The models below a folder, which is looked at again when it is used, once a second.

    Callers do not wait for a look that takes long: they get the models as they were before.

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
        self._watched: dict[str, WatchedFiles[Model]] = {}
        self._models: dict[str, Model] = {}
        self._all: tuple[Model, ...] = ()
        self._before: dict[str, Model] = {}
        self._missing: set[str] = set()
        self._reported: dict[str, str] = {}
        try:
            self._look(starts=True)
        except OSError as error:
            raise ValueError(f"models is {folder!r}; it cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"models is {folder!r}; {error}") from None
        self._poller = Poller(self._look_again)

    def close(self) -> None:
        """Waits until nothing reads the folder."""
        self._poller.close()

    def all(self) -> Sequence[Model]:
        """The models in the order of their names; the same object until one changes."""
        self._poller.poll()
        return self._all

    def get(self, name: str, digest: str = "") -> Model:
        """The model of a name.

        Args:
            name: its name.
            digest: the digest that its plan must have; "" for any.

        Raises:
            Refusal: if there is no such model, or its plan has another digest.
        """
        found = self._known(name, digest, self._current())
        if found is None:
            # A look that runs may be about to find it.
            found = self._known(name, digest, self._current(wait=True))
        if found is not None:
            return found
        model = self._models.get(name)
        raise unknown_model(name) if model is None else model_changed(name, model.digest, digest)

    def _known(self, name: str, digest: str, models: Mapping[str, Model]) -> Model | None:
        """The model, as it is now or was before, if it has the digest; "" takes any."""
        now, before = models.get(name), self._before.get(name)
        if now is None or digest in ("", now.digest):
            return now
        return before if before is not None and before.digest == digest else None

    def seeded(self, name: str, seed: int) -> list[PlanBytes]:
        """The plans of a model with another seed: as it is now, and the version before, if any.

        Args:
            name: its name.
            seed: the seed.

        Raises:
            Refusal: if there is no such model, or its seed is fixed.
        """
        model = self._current().get(name)
        if model is None:
            raise unknown_model(name)
        reason = self._why_fixed(model)
        if reason:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "SEED_FIXED",
                f"the seed of the model {name!r} is fixed here, and the request has the seed "
                f"{seed}: {reason}; leave the seed out, or take the model's plan and change "
                "its seed",
                {"model": name, "seed": seed},
            )
        before = self._before.get(name)
        return [one.plan.with_seed(seed) for one in (model, before) if one is not None]

    def _why_fixed(self, model: Model) -> str:
        """Why callers may not choose the seed; "" if they may."""
        is_there = f"{SETTINGS_FILE} beside its plan"
        try:
            path = file_beside(model.path, self._folder, SETTINGS_FILE)
            settings = ModelSettings() if path is None else settings_of(blob_of(path))
        except (OSError, ValueError, BlobChangedError) as error:
            return f"{is_there} cannot be used now ({error})"
        return "" if settings.seeds_are_open else f"`seeds: open` in {is_there} opens it"

    def files(self, model: Model) -> list[tuple[str, int]]:
        """Names and sizes of the files beside a model's plan, one above `MOST_FILES` at most."""
        return files_beside(model.path, self._folder)

    def _current(self, *, wait: bool = False) -> dict[str, Model]:
        self._poller.poll(wait=wait)
        return self._models

    def _look_again(self) -> None:
        try:
            self._look()
        except (OSError, ValueError) as error:
            self._report("", f"{self._folder!r} cannot be read, so the models stay: {error}")

    def _look(self, starts: bool = False) -> None:
        listing = list_models(self._folder)
        reasons = listing.unread | listing.refused
        for name, reason in reasons.items():
            self._report(name, reason)
        for name in self._reported.keys() - reasons.keys() - listing.plans.keys():
            del self._reported[name]
        found: dict[str, Model] = {}
        for name, path in listing.plans.items():
            model = self._read(name, path, starts)
            if model is not None:
                found[name] = model
                old = self._models.get(name)
                if old is not None and old.digest != model.digest:
                    self._before[name] = old

        def is_refused(name: str) -> bool:
            return name in listing.refused or name.partition("/")[0] in listing.unread

        gone = self._models.keys() - found.keys()
        for name in gone:
            # A refused file, or one that is missing for a moment, leaves the model as it was.
            if is_refused(name) or name not in self._missing:
                found[name] = self._models[name]
            else:
                self._watched.pop(name, None)
                self._before.pop(name, None)
                _LOG.info("the model %s is gone", name)
        self._missing = {name for name in gone if not is_refused(name)}
        if found != self._models:
            self._models = found
            self._all = tuple(model for _, model in sorted(found.items()))

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
        text = contents[0].decode()
        if _may_be_cut(text):
            raise ValueError(
                f"the last line of {path} does not end, so the file may be half-written; write it "
                "whole, with a newline at its end"
            )
        plan = parse_plan(text, source=path)
        try:
            found = layout(plan, self._limits.max_matrix_elements)
            check_header(len(found.header), self._limits)
        except Refusal as refusal:
            raise ValueError(refusal.details) from None
        message = to_proto(plan).SerializeToString()
        limit = self._limits.max_request_bytes
        if len(message) > limit:
            raise ValueError(f"it has {len(message)} bytes; this server takes {limit} at most")
        return Model(
            name=name,
            path=path,
            plan=PlanBytes(message),
            digest=found.digest,
            size=found.size,
            tensors=len(found.entries),
            file_id=blob_id(contents[0]),
        )

    def _report(self, name: str, reason: str) -> None:
        """Logs why a model is not served, once for each reason."""
        if self._reported.get(name) != reason:
            self._reported[name] = reason
            _LOG.error("the model %s is not read: %s", printable(name, _SHOWN), reason)


def _may_be_cut(text: str) -> bool:
    """Whether a plan file that can be read may still be the beginning of a longer one.

    A YAML file that ends in the middle of a line is cut, and `std: 0.02` may have been
    `std: 0.025`. In braces, as in JSON, the end of the plan is seen.
    """
    begin = text.removeprefix("\ufeff").lstrip()
    return begin != "" and not begin.startswith("{") and not text.endswith("\n")


def model_changed(name: str, digest: str, expected: str, seed: int | None = None) -> Refusal:
    """The refusal of a digest that a model does not have.

    Args:
        name: its name.
        digest: the digest that it has.
        expected: the one that the request expects.
        seed: the seed of the request.
    """
    kind = "the plan" if seed is None else f"with the seed {seed} the plan"
    shown = {} if seed is None else {"seed": seed}
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        "MODEL_CHANGED",
        f"the model {name!r} has {kind} {digest} here, and the request expects "
        f"{printable(expected, _SHOWN)}; take the digest that the model has now, or its plan",
        {"model": name, "expected_digest": expected, "plan_digest": digest, **shown},
    )


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
