"""Compiles the Numba backend, in the build of the image, into the cache beside the package.

What the server draws before it is ready is drawn here, so that it finds everything.
"""

import sys
from pathlib import Path

from initcore.backends import load, numba
from initserver._server import warm_up

warm_up(load("numba"))
compiled = [*(Path(numba.__file__).parent / "__pycache__").glob("*.nbc")]
print(*(f"{file}: {file.stat().st_size} bytes" for file in compiled), sep="\n")
sys.exit(not compiled)
