"""The mathematics of initserve: plans, schemes, the random stream, backends, the file.

No gRPC here: client and server build on this package and never on each other.
"""

from initcore._version import STREAM_VERSION, __version__
from initcore.errors import BackendError, CheckpointError, MissingPackageError, PlanError, Violation
from initcore.file.file_layout import Entry, Layout, layout
from initcore.file.fingerprints import Fingerprint, fingerprint
from initcore.file.virtual_file import VirtualFile
from initcore.generate.checkpoints import Checkpoints
from initcore.plan.builders import (
    constant,
    delta_orthogonal,
    dirac,
    eye,
    glorot_normal,
    glorot_uniform,
    hadamard,
    he_normal,
    he_uniform,
    identity,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    pretrained,
    sparse,
    trunc_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from initcore.plan.composed_builders import concatenate, permute, reshape, stack
from initcore.plan.gains import calculate_gain
from initcore.plan.plan import Plan, Tensor
from initcore.plan.transfer import with_pretrained
from initcore.wire.plan_file import dump_plan, load_plan

__all__ = [
    "STREAM_VERSION",
    "BackendError",
    "CheckpointError",
    "Checkpoints",
    "Entry",
    "Fingerprint",
    "Layout",
    "MissingPackageError",
    "Plan",
    "PlanError",
    "Tensor",
    "Violation",
    "VirtualFile",
    "__version__",
    "calculate_gain",
    "concatenate",
    "constant",
    "delta_orthogonal",
    "dirac",
    "dump_plan",
    "eye",
    "fingerprint",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "identity",
    "kaiming_normal",
    "kaiming_uniform",
    "layout",
    "lecun_normal",
    "lecun_uniform",
    "load_plan",
    "normal",
    "ones",
    "orthogonal",
    "permute",
    "pretrained",
    "reshape",
    "sparse",
    "stack",
    "trunc_normal",
    "uniform",
    "variance_scaling",
    "with_pretrained",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
