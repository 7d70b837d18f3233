"""From resolved tensors to their elements: samples, patterns, matrices, composed tensors,
checkpoints.

Not here: the place of a tensor in a file (`file`), and the inner loops (`backends`).
"""

from initcore.generate.checkpoints import Checkpoints, check_checkpoints, pretrained
from initcore.generate.device_arrays import fill_device, is_made_on_device
from initcore.generate.generation import Generator
from initcore.generate.headers import MAX_HEADER_BYTES, HeaderError, StoredTensor, read_header
from initcore.generate.leaves import is_elementwise
from initcore.generate.matrices import Matrices, Matrix, MatrixCache, Pulse
from initcore.generate.regions import Region
from initcore.generate.together import Together

__all__ = [
    "MAX_HEADER_BYTES",
    "Checkpoints",
    "Generator",
    "HeaderError",
    "Matrices",
    "Matrix",
    "MatrixCache",
    "Pulse",
    "Region",
    "StoredTensor",
    "Together",
    "check_checkpoints",
    "fill_device",
    "is_elementwise",
    "is_made_on_device",
    "pretrained",
    "read_header",
]
