"""Stands for a trainer: reads the weights and says their SHA-256, the same in every pod.

python check.py /weights/init.safetensors
"""

import hashlib
import sys
from pathlib import Path

from safetensors import safe_open

path = Path(sys.argv[1])
with safe_open(path, framework="numpy") as weights:
    names = list(weights.keys())
print(f"{path}: {len(names)} tensors, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
