"""`python -m initclient` is the command `initclient`."""

import sys

from initclient.cli import main

sys.exit(main())
