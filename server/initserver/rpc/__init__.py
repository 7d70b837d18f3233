"""The gRPC service: its methods, its health, and who may call them."""

from initserver.rpc.calls import Call, CallWatch, InFlight, Watcher
from initserver.rpc.gate import Gate
from initserver.rpc.handlers import add_to_server, stream_threads
from initserver.rpc.health import Health
from initserver.rpc.service import InitService
from initserver.rpc.tokens import TokenCheck, Tokens

__all__ = [
    "Call",
    "CallWatch",
    "Gate",
    "Health",
    "InFlight",
    "InitService",
    "TokenCheck",
    "Tokens",
    "Watcher",
    "add_to_server",
    "stream_threads",
]
