"""Compiles the Numba backend, in the build of the image, into the cache beside the package.

What the server draws before it is ready is drawn here, so that it finds everything; and one
fingerprint, for the first Describe that asks for them.
"""

import sys
from pathlib import Path

import numpy as np
from initcore import fingerprint
from initcore.backends import load, numba
from initserver.process.server import warm_up

warm_up(load("numba"))
fingerprint("w", np.zeros(1))
compiled = [*(Path(numba.__file__).parent / "__pycache__").glob("*.nbc")]
print(*(f"{file}: {file.stat().st_size} bytes" for file in compiled), sep="\n")
sys.exit(not compiled)
