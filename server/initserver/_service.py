"""What the service answers: the three methods of InitService, without their transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

import grpc
from initcore import STREAM_VERSION, Entry, Layout, VirtualFile, __version__, layout
from initcore.backends import Backend
from initcore.conversion import from_proto
from initcore.dtypes import DTYPES
from initcore.matrices import MatrixCache
from initcore.schemes import SCHEMES
from initserve.v1 import plan_pb2, service_pb2

from initserver._config import CHUNK_BYTES
from initserver._encoding import OutgoingChunk
from initserver._limits import Limits
from initserver._observer import NullObserver, Observer
from initserver._refusals import Refusal
from initserver._streaming import chunks

Response = service_pb2.FetchResponse | OutgoingChunk


@dataclass(frozen=True)
class InitService:
    """Answers requests. Every method raises PlanError for a wrong plan, Refusal for others.

    Attributes:
        backend: what draws the samples.
        pool: where chunks are made.
        limits: what is refused.
        observer: who hears what happens.
        cache: where matrices are kept between requests.
    """

    backend: Backend
    pool: Executor
    limits: Limits = field(default_factory=Limits)
    observer: Observer = field(default_factory=NullObserver)
    cache: MatrixCache = field(default_factory=MatrixCache)

    def fetch(
        self, request: service_pb2.FetchRequest, is_wanted: Callable[[], bool]
    ) -> Iterator[Response]:
        """FileInfo, then the chunks of the range that the request asks for."""
        laid_out = self._layout(request.plan)
        _check_digest(request.expected_digest, laid_out.digest)
        begin, size = request.read_offset, laid_out.size
        if begin > size:
            raise Refusal(
                grpc.StatusCode.OUT_OF_RANGE,
                f"read_offset is {begin}, past the end of the file, which has {size} bytes",
            )
        end = min(size, begin + request.read_limit) if request.read_limit else size
        yield service_pb2.FetchResponse(info=file_info(laid_out))
        file = VirtualFile(laid_out, self.backend, self.cache)
        yield from chunks(file, begin, end, CHUNK_BYTES, self.pool, is_wanted)

    def describe(self, request: service_pb2.DescribeRequest) -> service_pb2.DescribeResponse:
        """What the plan resolves to."""
        laid_out = self._layout(request.plan)
        return service_pb2.DescribeResponse(
            info=file_info(laid_out),
            header=laid_out.header,
            tensors=[_tensor_info(entry) for entry in laid_out.entries],
        )

    def server_info(self) -> service_pb2.GetServerInfoResponse:
        """Version, backend, limits and what this server knows."""
        return service_pb2.GetServerInfoResponse(
            version=__version__,
            stream_version=STREAM_VERSION,
            backend=self.backend.name,
            limits=service_pb2.Limits(
                max_matrix_elements=self.limits.max_matrix_elements, chunk_bytes=CHUNK_BYTES
            ),
            schemes=[name.upper() for name in SCHEMES],
            dtypes=list(DTYPES),
        )

    def _layout(self, plan: plan_pb2.Plan) -> Layout:
        return layout(from_proto(plan), self.limits.max_matrix_elements)


def _check_digest(expected: str, digest: str) -> None:
    if expected and expected != digest:
        raise Refusal(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the request expects a plan with digest {expected}, but its plan has digest {digest}",
        )


def file_info(laid_out: Layout) -> service_pb2.FileInfo:
    """The first message of a stream."""
    return service_pb2.FileInfo(
        total_size=laid_out.size,
        plan_digest=laid_out.digest,
        stream_version=STREAM_VERSION,
        warnings=laid_out.warnings,
    )


def _tensor_info(entry: Entry) -> service_pb2.TensorInfo:
    tensor, parameters = entry.tensor, entry.tensor.parameters
    return service_pb2.TensorInfo(
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
