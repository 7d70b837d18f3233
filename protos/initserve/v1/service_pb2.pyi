from initserve.v1 import plan_pb2 as _plan_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FetchRequest(_message.Message):
    __slots__ = ("plan", "read_offset", "read_limit", "expected_digest", "model", "seed")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    READ_OFFSET_FIELD_NUMBER: _ClassVar[int]
    READ_LIMIT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    plan: _plan_pb2.Plan
    read_offset: int
    read_limit: int
    expected_digest: str
    model: str
    seed: int
    def __init__(self, plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ..., read_offset: _Optional[int] = ..., read_limit: _Optional[int] = ..., expected_digest: _Optional[str] = ..., model: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("info", "chunk", "working")
    INFO_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    WORKING_FIELD_NUMBER: _ClassVar[int]
    info: FileInfo
    chunk: Chunk
    working: Working
    def __init__(self, info: _Optional[_Union[FileInfo, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., working: _Optional[_Union[Working, _Mapping]] = ...) -> None: ...

class Working(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FileInfo(_message.Message):
    __slots__ = ("total_size", "plan_digest", "stream_version", "warnings")
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STREAM_VERSION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    total_size: int
    plan_digest: str
    stream_version: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, total_size: _Optional[int] = ..., plan_digest: _Optional[str] = ..., stream_version: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("offset", "data", "crc32c")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    crc32c: int
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32c: _Optional[int] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("plan", "fingerprints")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINTS_FIELD_NUMBER: _ClassVar[int]
    plan: _plan_pb2.Plan
    fingerprints: bool
    def __init__(self, plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ..., fingerprints: bool = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("info", "header", "tensors")
    INFO_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    info: FileInfo
    header: bytes
    tensors: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    def __init__(self, info: _Optional[_Union[FileInfo, _Mapping]] = ..., header: _Optional[bytes] = ..., tensors: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("name", "dtype", "shape", "shard_shape", "begin", "end", "scheme", "fan_in", "fan_out", "mean", "std", "low", "high", "fingerprint")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARD_SHAPE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    FAN_IN_FIELD_NUMBER: _ClassVar[int]
    FAN_OUT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _plan_pb2.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    shard_shape: _containers.RepeatedScalarFieldContainer[int]
    begin: int
    end: int
    scheme: _plan_pb2.Scheme
    fan_in: float
    fan_out: float
    mean: float
    std: float
    low: float
    high: float
    fingerprint: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_plan_pb2.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., shard_shape: _Optional[_Iterable[int]] = ..., begin: _Optional[int] = ..., end: _Optional[int] = ..., scheme: _Optional[_Union[_plan_pb2.Scheme, str]] = ..., fan_in: _Optional[float] = ..., fan_out: _Optional[float] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., fingerprint: _Optional[bytes] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "stream_version", "backend", "limits", "schemes", "dtypes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STREAM_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SCHEMES_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    version: str
    stream_version: int
    backend: str
    limits: Limits
    schemes: _containers.RepeatedScalarFieldContainer[_plan_pb2.Scheme]
    dtypes: _containers.RepeatedScalarFieldContainer[_plan_pb2.DType]
    def __init__(self, version: _Optional[str] = ..., stream_version: _Optional[int] = ..., backend: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., schemes: _Optional[_Iterable[_Union[_plan_pb2.Scheme, str]]] = ..., dtypes: _Optional[_Iterable[_Union[_plan_pb2.DType, str]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_matrix_elements", "chunk_bytes", "max_tensors", "max_header_bytes", "max_fetch_bytes", "max_streams", "max_request_bytes", "cache_bytes", "matrix_cache_bytes", "max_fingerprint_bytes")
    MAX_MATRIX_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TENSORS_FIELD_NUMBER: _ClassVar[int]
    MAX_HEADER_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_FETCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MATRIX_CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_FINGERPRINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_matrix_elements: int
    chunk_bytes: int
    max_tensors: int
    max_header_bytes: int
    max_fetch_bytes: int
    max_streams: int
    max_request_bytes: int
    cache_bytes: int
    matrix_cache_bytes: int
    max_fingerprint_bytes: int
    def __init__(self, max_matrix_elements: _Optional[int] = ..., chunk_bytes: _Optional[int] = ..., max_tensors: _Optional[int] = ..., max_header_bytes: _Optional[int] = ..., max_fetch_bytes: _Optional[int] = ..., max_streams: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., cache_bytes: _Optional[int] = ..., matrix_cache_bytes: _Optional[int] = ..., max_fingerprint_bytes: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "plan_digest", "total_size", "tensors")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    name: str
    plan_digest: str
    total_size: int
    tensors: int
    def __init__(self, name: _Optional[str] = ..., plan_digest: _Optional[str] = ..., total_size: _Optional[int] = ..., tensors: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "expected_digest", "seed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    name: str
    expected_digest: str
    seed: int
    def __init__(self, name: _Optional[str] = ..., expected_digest: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("info", "plan", "files")
    INFO_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    info: ModelInfo
    plan: _plan_pb2.Plan
    files: _containers.RepeatedCompositeFieldContainer[ModelFile]
    def __init__(self, info: _Optional[_Union[ModelInfo, _Mapping]] = ..., plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ..., files: _Optional[_Iterable[_Union[ModelFile, _Mapping]]] = ...) -> None: ...

class ModelFile(_message.Message):
    __slots__ = ("name", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...
