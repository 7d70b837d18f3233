"""Exit status 0 while the server in this container is ready: the image's HEALTHCHECK.

It asks /readyz on the port of INITSERVE_METRICS_LISTEN, which stays plain HTTP under TLS and
wants no token. Kubernetes does not use it; its probes are in deploy/base.
"""

import os
import sys
import urllib.error
import urllib.request

port = os.environ["INITSERVE_METRICS_LISTEN"].rpartition(":")[2]
# No proxy: it would be asked for its own 127.0.0.1.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open(f"http://127.0.0.1:{port}/readyz", timeout=3).close()
except (urllib.error.URLError, OSError) as error:
    sys.exit(f"not ready: {error}")
