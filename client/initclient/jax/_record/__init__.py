"""What a JAX model's own initialization code says of each of its leaves: laws, parts, sources."""

from initclient.jax._record.findings import Finding
from initclient.jax._record.recorded import Recorded, run

__all__ = ["Finding", "Recorded", "run"]
