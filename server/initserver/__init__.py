"""The initserve service: any byte range of any plan's file, over gRPC.

Most people run the command `initserver`. Programs that want a server inside their own
process (tests, notebooks) make a `Server`:

    with Server(ServerConfig(listen="127.0.0.1:0")) as server:
        print(server.address)
"""

from initcore import __version__

from initserver.config import Limits, ServerConfig
from initserver.net import ListenError
from initserver.process import Server

__all__ = ["Limits", "ListenError", "Server", "ServerConfig", "__version__"]
