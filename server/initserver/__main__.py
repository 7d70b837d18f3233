"""`python -m initserver` is the command `initserver`."""

import sys

from initserver.cli import main

sys.exit(main())
