"""The methods of InitService, without their transport."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace

import grpc
from initcore import (
    STREAM_VERSION,
    Checkpoints,
    Entry,
    Fingerprint,
    Layout,
    VirtualFile,
    __version__,
)
from initcore.backends import Backend
from initcore.dtypes import DTYPES
from initcore.machine import available_cpus
from initcore.plan import SCHEMES
from initcore.wire import write_varint
from initserve.v1 import service_pb2

from initserver.config import CHUNK_BYTES, Limits
from initserver.models import MOST_FILES, Model, Models, model_changed, unknown_model
from initserver.rpc.slots import Slot, Slots
from initserver.share import Waiter
from initserver.values import (
    SIGN_OF_LIFE_SECONDS,
    Caller,
    Chunks,
    Fingerprints,
    Metrics,
    RecentPlans,
)
from initserver.wire import Incoming, OutgoingChunk, PlanBytes, Refusal, above_limit

Response = service_pb2.FetchResponse | OutgoingChunk

# GetModelResponse.plan: field number << 3 | wire type.
_PLAN_TAG = bytes([service_pb2.GetModelResponse.PLAN_FIELD_NUMBER << 3 | 2])

_WORKING = service_pb2.FetchResponse(working=service_pb2.Working())

RETRY_SECONDS = 1.0
"""When a client may retry after a refusal with MAX_STREAMS."""

_MATRIX_THREADS = 2

# A stream's first message must not exceed the largest message that clients accept.
_MAX_WARNINGS = 100
_MAX_WARNING_CHARACTERS = 1000


class InitService:
    """Answers requests. Methods raise PlanError for an invalid plan, Refusal for other reasons.

    Args:
        backend: computes the values.
        limits: the limits of the server.
        metrics: counts streams, bytes and chunks; None counts nothing.
        threads: chunks made at the same time; None means one for each CPU that the process may
            use.
        checkpoints: where `pretrained` tensors are read; None refuses plans that have them.
        models: the plans that callers may name; None has none.

    Attributes:
        limits: the limits of the server.
    """

    def __init__(
        self,
        backend: Backend,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        threads: int | None = None,
        checkpoints: Checkpoints | None = None,
        models: Models | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._models = models
        self._listed: tuple[Sequence[Model], service_pb2.ListModelsResponse] = (
            (),
            service_pb2.ListModelsResponse(),
        )
        self._backend = backend
        self._metrics = metrics or Metrics()
        threads = threads or available_cpus()
        self._pool = ThreadPoolExecutor(threads, "initserver-chunk")
        self._matrix_pool = ThreadPoolExecutor(_MATRIX_THREADS, "initserver-matrix")
        self._composed_pool = ThreadPoolExecutor(threads, "initserver-composed")
        self._chunks = Chunks(
            self.limits, self._metrics, self._pool, self._matrix_pool, self._composed_pool
        )
        self._fingerprints = Fingerprints(self._chunks, backend.name, threads)
        self._plans = RecentPlans(self.limits, backend, checkpoints)
        self._slots = Slots(self.limits.max_streams, self.limits.max_stall_seconds)

    def fetch(self, request: Incoming, caller: Caller) -> Iterator[Response]:
        """FileInfo, then the chunks of the range that the request asks for."""
        with self._stream(caller) as slot:
            yield from slot.following(self._messages(request, caller))

    def _messages(self, request: Incoming, caller: Caller) -> Iterator[Response]:
        files = []
        for plan in self._plans_of(request):
            waiter = self._join(plan, caller)
            for _ in waiter.ticks(SIGN_OF_LIFE_SECONDS):
                yield _WORKING
            files.append(_result(waiter, caller))
            if files[-1].layout.digest == request.expected_digest:
                break
        file = _chosen(files, request.model, request.expected_digest, request.seed)
        begin, end = self._range(request, file.layout)
        chunks = self._counted(self._chunks.stream(file, begin, end, caller))
        yield service_pb2.FetchResponse(info=file_info(file.layout))
        for chunk in chunks:
            yield _WORKING if chunk is None else chunk

    @contextmanager
    def download(
        self, plan: PlanBytes, begin: int, end: int, caller: Caller
    ) -> Iterator[Iterator[OutgoingChunk | None]]:
        """Chunks of bytes begin .. end - 1 of a plan's file, for transports other than gRPC.

        In the body the download has one of the `max_streams` slots. None stands where nothing has
        come for a while.

        Raises:
            Refusal: if there is no slot, or the plan or the range is above a limit.
        """
        with self._stream(caller) as slot:
            waiter = self._plans.join(plan)
            caller.add(waiter)
            file = _result(waiter, caller)
            self._check_size(end - begin)
            chunks = self._chunks.stream(file, begin, end, caller)
            yield slot.following(self._counted(chunks))

    def _counted(self, chunks: Iterator[OutgoingChunk | None]) -> Iterator[OutgoingChunk | None]:
        for chunk in chunks:
            if chunk is not None:
                self._metrics.sent_bytes.add(len(chunk.data))
            yield chunk

    def describe(self, request: Incoming, caller: Caller) -> service_pb2.DescribeResponse:
        """The plan's header, offsets and moments; fingerprints if the request asks for them."""
        (plan,) = self._plans_of(request)
        file = _result(self._join(plan, caller), caller)
        layout = file.layout
        response = service_pb2.DescribeResponse(info=file_info(layout), header=layout.header)
        for entry in layout.entries:
            _add_tensor(response, entry)
        if request.fingerprints:
            self._check_fingerprints(layout)
            with self._slot(caller):
                found = self._fingerprints.of(file, caller)
            for tensor in response.tensors:
                tensor.fingerprint = bytes(found.get(tensor.name, Fingerprint()))
        return response

    def server_info(self) -> service_pb2.GetServerInfoResponse:
        """Version, backend, limits, schemes and dtypes of this server."""
        return service_pb2.GetServerInfoResponse(
            version=__version__,
            stream_version=STREAM_VERSION,
            backend=self._backend.name,
            limits=limits_message(self.limits),
            schemes=[name.upper() for name in SCHEMES],
            dtypes=list(DTYPES),
        )

    def list_models(self) -> service_pb2.ListModelsResponse:
        """The models that this server has by name."""
        models = self._models.all() if self._models else ()
        # A thousand models take some milliseconds to write down.
        known, answer = self._listed
        if known is not models:
            answer = service_pb2.ListModelsResponse(models=map(_model_info, models))
            self._listed = models, answer
        return answer

    def get_model(self, request: service_pb2.GetModelRequest | Refusal, caller: Caller) -> bytes:
        """One model: plan, digest, files; a serialized GetModelResponse."""
        if isinstance(request, Refusal):
            raise request
        if request.HasField("seed"):
            model = self._seeded(request, caller)
        else:
            model = self._model(request.name, request.expected_digest)
        assert self._models is not None
        files = self._models.files(model)[:MOST_FILES]
        rest = service_pb2.GetModelResponse(
            info=_model_info(model),
            files=[service_pb2.ModelFile(name=name, size=size) for name, size in files],
        )
        # Thousands of ranks may ask at once, and a plan of megabytes takes a tenth of a second to
        # parse: its bytes are put into the message as they are.
        plan = model.plan.data
        return rest.SerializeToString() + _PLAN_TAG + write_varint(len(plan)) + plan

    def close(self) -> None:
        """Frees the threads. Calls that still run fail."""
        for pool in (self._matrix_pool, self._composed_pool, self._pool):
            pool.shutdown(wait=True, cancel_futures=True)
        self._plans.close()

    @contextmanager
    def _slot(self, caller: Caller) -> Iterator[Slot]:
        """Takes one of the `max_streams` slots for calls that compute values."""
        slot = self._slots.take(caller)
        if slot is None:
            raise self._full()
        try:
            yield slot
        finally:
            self._slots.give_back(slot)

    def _full(self) -> Refusal:
        return above_limit(
            self.limits,
            "max_streams",
            f"this server runs {self.limits.max_streams} downloads at a time, and that many "
            f"are running; retry in {RETRY_SECONDS:g} s or at another replica",
            code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            retry_seconds=RETRY_SECONDS,
        )

    @contextmanager
    def _stream(self, caller: Caller) -> Iterator[Slot]:
        with self._slot(caller) as slot:
            self._metrics.streams_in_flight.add(1)
            try:
                yield slot
            finally:
                self._metrics.streams_in_flight.add(-1)

    def _check_fingerprints(self, layout: Layout) -> None:
        size, limit = layout.size - layout.data_begin, self.limits.max_fingerprint_bytes
        if size > limit:
            raise above_limit(
                self.limits,
                "max_fingerprint_bytes",
                f"the plan's tensors have {size} bytes and this server fingerprints at most "
                f"{limit} at a time; ask for fewer tensors, or for parts of them: their "
                "fingerprints add up",
                "plan.tensors",
            )

    def _plans_of(self, request: Incoming) -> list[PlanBytes]:
        """The plan that a request has or names; with a seed also that of the version before."""
        if request.problem:
            raise request.problem
        if not request.model:
            return [request.plan]
        if request.seed is None:
            return [self._model(request.model, request.expected_digest).plan]
        return self._repository(request.model).seeded(request.model, request.seed)

    def _join(self, plan: PlanBytes, caller: Caller) -> Waiter[VirtualFile]:
        waiter = self._plans.join(plan)
        caller.add(waiter)
        return waiter

    def _seeded(self, request: service_pb2.GetModelRequest, caller: Caller) -> Model:
        """The model with the plan of another seed."""
        name, seed, expected = request.name, request.seed, request.expected_digest
        plans = self._repository(name).seeded(name, seed)
        files: list[VirtualFile] = []
        for plan in plans:
            files.append(_result(self._join(plan, caller), caller))
            if expected in ("", files[-1].layout.digest):
                break
        found = _chosen(files, name, expected, seed).layout
        return replace(
            self._repository(name).get(name),
            plan=plans[len(files) - 1],
            digest=found.digest,
            size=found.size,
            tensors=len(found.entries),
        )

    def _model(self, name: str, digest: str) -> Model:
        return self._repository(name).get(name, digest)

    def _repository(self, name: str) -> Models:
        if self._models is None:
            raise unknown_model(name)
        return self._models

    def _range(self, request: Incoming, layout: Layout) -> tuple[int, int]:
        """First byte and the one past the last."""
        _check_digest(request.expected_digest, layout.digest)
        begin, size = request.read_offset, layout.size
        if begin > size:
            raise Refusal(
                grpc.StatusCode.OUT_OF_RANGE,
                "OFFSET_OUT_OF_RANGE",
                f"read_offset is {begin}, past the end of the file, which has {size} bytes",
                {"read_offset": begin, "total_size": size},
            )
        end = min(size, begin + request.read_limit) if request.read_limit else size
        self._check_size(end - begin)
        return begin, end

    def _check_size(self, size: int) -> None:
        limit = self.limits.max_fetch_bytes
        if size > limit:
            raise above_limit(
                self.limits,
                "max_fetch_bytes",
                f"the request is for {size} bytes and this server sends at most {limit} "
                "at a time; ask for parts, with read_offset and read_limit",
                "read_limit",
            )


def _result(waiter: Waiter[VirtualFile], caller: Caller) -> VirtualFile:
    try:
        return waiter.result()
    finally:
        caller.discard(waiter)


def _chosen(
    files: Sequence[VirtualFile], name: str, expected: str, seed: int | None
) -> VirtualFile:
    """The last of the files, which must have the expected digest if a seed was asked for.

    Raises:
        Refusal: if none has it.
    """
    if seed is not None and expected not in ("", files[-1].layout.digest):
        raise model_changed(name, files[0].layout.digest, expected, seed)
    return files[-1]


def _check_digest(expected: str, digest: str) -> None:
    if expected and expected != digest:
        raise Refusal(
            grpc.StatusCode.FAILED_PRECONDITION,
            "DIGEST_MISMATCH",
            f"its plan has digest {digest}, but the request expects {expected}",
            {"expected_digest": expected, "plan_digest": digest, "version": __version__},
        )


def limits_message(limits: Limits) -> service_pb2.Limits:
    """The limits that the message has fields for, and the size of chunks."""
    known = service_pb2.Limits.DESCRIPTOR.fields_by_name
    shown = {name: value for name, value in asdict(limits).items() if name in known}
    return service_pb2.Limits(chunk_bytes=CHUNK_BYTES, **shown)


def file_info(layout: Layout) -> service_pb2.FileInfo:
    """The first message of a stream."""
    warnings = [text[:_MAX_WARNING_CHARACTERS] for text in layout.warnings[:_MAX_WARNINGS]]
    hidden = len(layout.warnings) - len(warnings)
    if hidden:
        warnings.append(f"{hidden} more warnings are not shown")
    return service_pb2.FileInfo(
        total_size=layout.size,
        plan_digest=layout.digest,
        stream_version=STREAM_VERSION,
        warnings=warnings,
    )


def _model_info(model: Model) -> service_pb2.ModelInfo:
    return service_pb2.ModelInfo(
        name=model.name,
        plan_digest=model.digest,
        total_size=model.size,
        tensors=model.tensors,
    )


def _add_tensor(response: service_pb2.DescribeResponse, entry: Entry) -> None:
    tensor, parameters = entry.tensor, entry.tensor.parameters
    # In place: a list of messages is copied in one go, 0.2 s for 100,000 in which no thread runs.
    response.tensors.add(
        name=tensor.name,
        dtype=tensor.dtype.name,
        shape=tensor.shape,
        shard_shape=tensor.shard_shape,
        begin=entry.begin,
        end=entry.end,
        scheme=tensor.scheme.upper(),
        fan_in=parameters.fan_in,
        fan_out=parameters.fan_out,
        mean=parameters.mean,
        std=parameters.std,
        low=parameters.low,
        high=parameters.high,
    )
