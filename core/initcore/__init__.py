"""The mathematics of initserve: plans, schemes, the random stream, backends, the file.

No gRPC here: client and server build on this package and never on each other.
"""

from initcore._version import STREAM_VERSION, __version__
from initcore.errors import BackendError, CheckpointError, MissingPackageError, PlanError, Violation
from initcore.file import Entry, Fingerprint, Layout, VirtualFile, fingerprint, layout
from initcore.generate import Checkpoints
from initcore.plan import Plan, Tensor, calculate_gain, with_pretrained
from initcore.plan import attach as _attach
from initcore.plan import builders as _builders
from initcore.plan.builders import *  # noqa: F403 - its __all__ names one builder a scheme
from initcore.wire import dump_plan, load_plan
from initcore.wire import format_plan as _format_plan

# The digest is the same whoever computes the values, so it has no limit on matrices.
_attach(digest=lambda plan: layout(plan, 2**63 - 1).digest, to_yaml=_format_plan)

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
    "dump_plan",
    "fingerprint",
    "layout",
    "load_plan",
    "with_pretrained",
]
__all__ += _builders.__all__
