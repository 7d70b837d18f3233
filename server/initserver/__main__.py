"""`python -m initserver` is the command `initserver`."""

import sys

from initserver.cli import main

# Workers import this module once more.
if __name__ == "__main__":
    sys.exit(main())
