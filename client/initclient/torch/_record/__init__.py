"""What a model's own initialization code says of each of its tensors: laws, parts, sources."""

from initclient.torch._record.recorded import Recorded, replay, run

__all__ = ["Recorded", "replay", "run"]
