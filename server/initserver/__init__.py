"""The initserve service: any byte range of any plan's file, over gRPC.

Most people run the command `initserver`. Programs that want a server inside their own
process (tests, notebooks) make a `Server`:

    with Server(ServerConfig(listen="127.0.0.1:0")) as server:
        print(server.address)
"""

from initcore import __version__

from initserver.config.limits import Limits
from initserver.config.settings import ServerConfig
from initserver.net.listening import ListenError
from initserver.process.server import Server

__all__ = ["Limits", "ListenError", "Server", "ServerConfig", "__version__"]
