"""The gRPC service: its methods, its health, and which calls are accepted.

The values are computed in `initserver.values`; ports, start and stop are in
`initserver.process`.
"""

from initserver.rpc.calls import Call, CallWatch, InFlight, Watcher, trace_id
from initserver.rpc.gate import Gate
from initserver.rpc.handlers import add_to_server, description_threads, stream_threads
from initserver.rpc.health import Health
from initserver.rpc.service import InitService
from initserver.rpc.tokens import TokenCheck, Tokens
from initserver.rpc.turns import FEW_TURNS, Arrivals, ClientTurns

__all__ = [
    "FEW_TURNS",
    "Arrivals",
    "Call",
    "CallWatch",
    "ClientTurns",
    "Gate",
    "Health",
    "InFlight",
    "InitService",
    "TokenCheck",
    "Tokens",
    "Watcher",
    "add_to_server",
    "description_threads",
    "stream_threads",
    "trace_id",
]
