"""The Hub endpoint: model folders over HTTP, for stock clients of the Hugging Face Hub.

Values come from `initserver.rpc` and `initserver.values`, with the caches and limits that gRPC has.
"""

from initserver.hub.endpoint import Endpoint
from initserver.hub.pages import Pages
from initserver.hub.port import HubPort, load_aiohttp

__all__ = ["Endpoint", "HubPort", "Pages", "load_aiohttp"]
