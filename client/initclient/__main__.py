"""`python -m initclient` is the command `initclient`."""

import sys

from initserve.entry import initclient

sys.exit(initclient())
