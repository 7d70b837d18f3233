"""`python -m initserver` is the command `initserver`."""

import sys

from initserve.entry import initserver

# Workers import this module once more.
if __name__ == "__main__":
    sys.exit(initserver())
