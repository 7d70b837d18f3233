"""Where values come from: this process or a service, with credentials and retries."""

from initclient._source.checkpoints import Folder, open_checkpoints, open_file
from initclient._source.credentials import Credentials, read
from initclient._source.request import Request, make_request
from initclient._source.retry import Retry
from initclient._source.service import Service
from initclient._source.target import Target, resolve_target

__all__ = [
    "Credentials",
    "Folder",
    "Request",
    "Retry",
    "Service",
    "Target",
    "make_request",
    "open_checkpoints",
    "open_file",
    "read",
    "resolve_target",
]
