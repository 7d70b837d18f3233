from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    F64: _ClassVar[DType]
    F32: _ClassVar[DType]
    F16: _ClassVar[DType]
    BF16: _ClassVar[DType]
    F8_E4M3: _ClassVar[DType]
    F8_E5M2: _ClassVar[DType]
    I64: _ClassVar[DType]
    I32: _ClassVar[DType]
    I16: _ClassVar[DType]
    I8: _ClassVar[DType]
    U64: _ClassVar[DType]
    U32: _ClassVar[DType]
    U16: _ClassVar[DType]
    U8: _ClassVar[DType]
    BOOL: _ClassVar[DType]

class Scheme(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEME_UNSPECIFIED: _ClassVar[Scheme]
    UNIFORM: _ClassVar[Scheme]
    NORMAL: _ClassVar[Scheme]
    TRUNC_NORMAL: _ClassVar[Scheme]
    CONSTANT: _ClassVar[Scheme]
    ONES: _ClassVar[Scheme]
    ZEROS: _ClassVar[Scheme]
    EYE: _ClassVar[Scheme]
    DIRAC: _ClassVar[Scheme]
    XAVIER_UNIFORM: _ClassVar[Scheme]
    XAVIER_NORMAL: _ClassVar[Scheme]
    KAIMING_UNIFORM: _ClassVar[Scheme]
    KAIMING_NORMAL: _ClassVar[Scheme]
    ORTHOGONAL: _ClassVar[Scheme]
    SPARSE: _ClassVar[Scheme]
    VARIANCE_SCALING: _ClassVar[Scheme]
    LECUN_UNIFORM: _ClassVar[Scheme]
    LECUN_NORMAL: _ClassVar[Scheme]
    GLOROT_UNIFORM: _ClassVar[Scheme]
    GLOROT_NORMAL: _ClassVar[Scheme]
    HE_UNIFORM: _ClassVar[Scheme]
    HE_NORMAL: _ClassVar[Scheme]
    IDENTITY: _ClassVar[Scheme]
    DELTA_ORTHOGONAL: _ClassVar[Scheme]
    CONCATENATE: _ClassVar[Scheme]
    STACK: _ClassVar[Scheme]
    PERMUTE: _ClassVar[Scheme]
    RESHAPE: _ClassVar[Scheme]
    PRETRAINED: _ClassVar[Scheme]
    HADAMARD: _ClassVar[Scheme]
    LITERAL: _ClassVar[Scheme]
    BROADCAST_TO: _ClassVar[Scheme]
    APPLY: _ClassVar[Scheme]
    NORM: _ClassVar[Scheme]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    FAN_IN: _ClassVar[Mode]
    FAN_OUT: _ClassVar[Mode]
    FAN_AVG: _ClassVar[Mode]
    FAN_GEO_AVG: _ClassVar[Mode]

class Nonlinearity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONLINEARITY_UNSPECIFIED: _ClassVar[Nonlinearity]
    LINEAR: _ClassVar[Nonlinearity]
    CONV1D: _ClassVar[Nonlinearity]
    CONV2D: _ClassVar[Nonlinearity]
    CONV3D: _ClassVar[Nonlinearity]
    CONV_TRANSPOSE1D: _ClassVar[Nonlinearity]
    CONV_TRANSPOSE2D: _ClassVar[Nonlinearity]
    CONV_TRANSPOSE3D: _ClassVar[Nonlinearity]
    SIGMOID: _ClassVar[Nonlinearity]
    TANH: _ClassVar[Nonlinearity]
    RELU: _ClassVar[Nonlinearity]
    LEAKY_RELU: _ClassVar[Nonlinearity]
    SELU: _ClassVar[Nonlinearity]

class FanLayout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAN_LAYOUT_UNSPECIFIED: _ClassVar[FanLayout]
    TORCH: _ClassVar[FanLayout]
    JAX: _ClassVar[FanLayout]
DTYPE_UNSPECIFIED: DType
F64: DType
F32: DType
F16: DType
BF16: DType
F8_E4M3: DType
F8_E5M2: DType
I64: DType
I32: DType
I16: DType
I8: DType
U64: DType
U32: DType
U16: DType
U8: DType
BOOL: DType
SCHEME_UNSPECIFIED: Scheme
UNIFORM: Scheme
NORMAL: Scheme
TRUNC_NORMAL: Scheme
CONSTANT: Scheme
ONES: Scheme
ZEROS: Scheme
EYE: Scheme
DIRAC: Scheme
XAVIER_UNIFORM: Scheme
XAVIER_NORMAL: Scheme
KAIMING_UNIFORM: Scheme
KAIMING_NORMAL: Scheme
ORTHOGONAL: Scheme
SPARSE: Scheme
VARIANCE_SCALING: Scheme
LECUN_UNIFORM: Scheme
LECUN_NORMAL: Scheme
GLOROT_UNIFORM: Scheme
GLOROT_NORMAL: Scheme
HE_UNIFORM: Scheme
HE_NORMAL: Scheme
IDENTITY: Scheme
DELTA_ORTHOGONAL: Scheme
CONCATENATE: Scheme
STACK: Scheme
PERMUTE: Scheme
RESHAPE: Scheme
PRETRAINED: Scheme
HADAMARD: Scheme
LITERAL: Scheme
BROADCAST_TO: Scheme
APPLY: Scheme
NORM: Scheme
MODE_UNSPECIFIED: Mode
FAN_IN: Mode
FAN_OUT: Mode
FAN_AVG: Mode
FAN_GEO_AVG: Mode
NONLINEARITY_UNSPECIFIED: Nonlinearity
LINEAR: Nonlinearity
CONV1D: Nonlinearity
CONV2D: Nonlinearity
CONV3D: Nonlinearity
CONV_TRANSPOSE1D: Nonlinearity
CONV_TRANSPOSE2D: Nonlinearity
CONV_TRANSPOSE3D: Nonlinearity
SIGMOID: Nonlinearity
TANH: Nonlinearity
RELU: Nonlinearity
LEAKY_RELU: Nonlinearity
SELU: Nonlinearity
FAN_LAYOUT_UNSPECIFIED: FanLayout
TORCH: FanLayout
JAX: FanLayout

class Plan(_message.Message):
    __slots__ = ("seed", "tensors", "provenance")
    class ProvenanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEED_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    seed: int
    tensors: _containers.RepeatedCompositeFieldContainer[Tensor]
    provenance: _containers.ScalarMap[str, str]
    def __init__(self, seed: _Optional[int] = ..., tensors: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., provenance: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "shape", "dtype", "scheme", "stream", "seed", "slices", "a", "b", "mean", "std", "val", "gain", "sparsity", "groups", "mode", "nonlinearity", "scale", "distribution", "layout", "batch_axes", "relative", "zero_rows", "parts", "axis", "axes", "checkpoint", "source", "sha256", "function", "values")
    class Function(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FUNCTION_UNSPECIFIED: _ClassVar[Tensor.Function]
        EXP: _ClassVar[Tensor.Function]
        EXPM1: _ClassVar[Tensor.Function]
        LOG: _ClassVar[Tensor.Function]
        LOG1P: _ClassVar[Tensor.Function]
        SQRT: _ClassVar[Tensor.Function]
        SQUARE: _ClassVar[Tensor.Function]
        RECIPROCAL: _ClassVar[Tensor.Function]
        ABS: _ClassVar[Tensor.Function]
        ADD: _ClassVar[Tensor.Function]
        MULTIPLY: _ClassVar[Tensor.Function]
        CLAMP: _ClassVar[Tensor.Function]
        SOFTPLUS: _ClassVar[Tensor.Function]
        INVERSE_SOFTPLUS: _ClassVar[Tensor.Function]
    FUNCTION_UNSPECIFIED: Tensor.Function
    EXP: Tensor.Function
    EXPM1: Tensor.Function
    LOG: Tensor.Function
    LOG1P: Tensor.Function
    SQRT: Tensor.Function
    SQUARE: Tensor.Function
    RECIPROCAL: Tensor.Function
    ABS: Tensor.Function
    ADD: Tensor.Function
    MULTIPLY: Tensor.Function
    CLAMP: Tensor.Function
    SOFTPLUS: Tensor.Function
    INVERSE_SOFTPLUS: Tensor.Function
    class Distribution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DISTRIBUTION_UNSPECIFIED: _ClassVar[Tensor.Distribution]
        NORMAL: _ClassVar[Tensor.Distribution]
        TRUNCATED_NORMAL: _ClassVar[Tensor.Distribution]
        UNIFORM: _ClassVar[Tensor.Distribution]
    DISTRIBUTION_UNSPECIFIED: Tensor.Distribution
    NORMAL: Tensor.Distribution
    TRUNCATED_NORMAL: Tensor.Distribution
    UNIFORM: Tensor.Distribution
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    VAL_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    NONLINEARITY_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    BATCH_AXES_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_FIELD_NUMBER: _ClassVar[int]
    ZERO_ROWS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: DType
    scheme: Scheme
    stream: str
    seed: int
    slices: _containers.RepeatedCompositeFieldContainer[Slice]
    a: float
    b: float
    mean: float
    std: float
    val: float
    gain: float
    sparsity: float
    groups: int
    mode: Mode
    nonlinearity: Nonlinearity
    scale: float
    distribution: Tensor.Distribution
    layout: FanLayout
    batch_axes: _containers.RepeatedScalarFieldContainer[int]
    relative: bool
    zero_rows: _containers.RepeatedScalarFieldContainer[int]
    parts: _containers.RepeatedCompositeFieldContainer[Tensor]
    axis: int
    axes: _containers.RepeatedScalarFieldContainer[int]
    checkpoint: str
    source: str
    sha256: str
    function: Tensor.Function
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[_Union[DType, str]] = ..., scheme: _Optional[_Union[Scheme, str]] = ..., stream: _Optional[str] = ..., seed: _Optional[int] = ..., slices: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., a: _Optional[float] = ..., b: _Optional[float] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., val: _Optional[float] = ..., gain: _Optional[float] = ..., sparsity: _Optional[float] = ..., groups: _Optional[int] = ..., mode: _Optional[_Union[Mode, str]] = ..., nonlinearity: _Optional[_Union[Nonlinearity, str]] = ..., scale: _Optional[float] = ..., distribution: _Optional[_Union[Tensor.Distribution, str]] = ..., layout: _Optional[_Union[FanLayout, str]] = ..., batch_axes: _Optional[_Iterable[int]] = ..., relative: bool = ..., zero_rows: _Optional[_Iterable[int]] = ..., parts: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., axis: _Optional[int] = ..., axes: _Optional[_Iterable[int]] = ..., checkpoint: _Optional[str] = ..., source: _Optional[str] = ..., sha256: _Optional[str] = ..., function: _Optional[_Union[Tensor.Function, str]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: int
    stop: int
    def __init__(self, start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...
