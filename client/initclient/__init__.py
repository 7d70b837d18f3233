"""initserve's public API: the same initial weights for every trainer, to the bit.

>>> import initclient as ic
>>> plan = ic.Plan(seed=7, tensors={
...     "fc.weight": ic.kaiming_normal((64, 32), nonlinearity="relu", dtype="bfloat16"),
...     "fc.bias": ic.zeros((64,)),
... })
>>> weights = ic.fetch(plan, target="local")      # or the address of a server: the same bits
>>> weights["fc.weight"].shape
(64, 32)
"""

from initcore import (
    STREAM_VERSION,
    BackendError,
    CheckpointError,
    Fingerprint,
    MissingPackageError,
    Plan,
    PlanError,
    Tensor,
    Violation,
    __version__,
    calculate_gain,
    dump_plan,
    fingerprint,
    load_plan,
    with_pretrained,
)
from initcore.plan import builders as _builders
from initcore.plan.builders import *  # noqa: F403 - its __all__ names one builder a scheme
from initcore.show import Description, TensorDescription

from initclient._checking import Mismatch, Verification, VerificationError, WrongPart
from initclient._client import Client, Local
from initclient._exceptions import (
    AuthenticationError,
    BusyError,
    DeadlineError,
    InitserveError,
    IntegrityError,
    LimitError,
    PartialFileWarning,
    PlanWarning,
    ServerError,
    TransportError,
    UnavailableError,
)
from initclient._fetch import fetch
from initclient._fetch_file import fetch_file
from initclient._from_safetensors import plan_from_safetensors
from initclient._inspect import Changed, PlanDiff, describe, diff, plot
from initclient._models import get_plan, list_models
from initclient._plan import Model, ModelInfo, rule
from initclient._source import Credentials, Retry
from initclient._verify import verify

__all__ = [
    "STREAM_VERSION",
    "AuthenticationError",
    "BackendError",
    "BusyError",
    "Changed",
    "CheckpointError",
    "Client",
    "Credentials",
    "DeadlineError",
    "Description",
    "Fingerprint",
    "InitserveError",
    "IntegrityError",
    "LimitError",
    "Local",
    "Mismatch",
    "MissingPackageError",
    "Model",
    "ModelInfo",
    "PartialFileWarning",
    "Plan",
    "PlanDiff",
    "PlanError",
    "PlanWarning",
    "Retry",
    "ServerError",
    "Tensor",
    "TensorDescription",
    "TransportError",
    "UnavailableError",
    "Verification",
    "VerificationError",
    "Violation",
    "WrongPart",
    "__version__",
    "calculate_gain",
    "describe",
    "diff",
    "dump_plan",
    "fetch",
    "fetch_file",
    "fingerprint",
    "get_plan",
    "list_models",
    "load_plan",
    "plan_from_safetensors",
    "plot",
    "rule",
    "verify",
    "with_pretrained",
]
__all__ += _builders.__all__
