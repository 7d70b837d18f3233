"""Sources of values: this process or a service, with credentials, retries and connections.

A call chooses its source once and makes one request. Not here: calls (`_transport`) and
computing (`_compute`).
"""

from initclient._source.certificates import authorities_of, pair_of
from initclient._source.checkpoints import Folder, open_checkpoints
from initclient._source.connections import Connections, note_use
from initclient._source.credentials import Credentials
from initclient._source.in_process import InProcess
from initclient._source.proxies import Proxy, proxy_of, route
from initclient._source.request import Request, make_request
from initclient._source.retry import Retry
from initclient._source.service import Service, service_at
from initclient._source.source import Source, Target, source_of

__all__ = [
    "Connections",
    "Credentials",
    "Folder",
    "InProcess",
    "Proxy",
    "Request",
    "Retry",
    "Service",
    "Source",
    "Target",
    "authorities_of",
    "make_request",
    "note_use",
    "open_checkpoints",
    "pair_of",
    "proxy_of",
    "route",
    "service_at",
    "source_of",
]
