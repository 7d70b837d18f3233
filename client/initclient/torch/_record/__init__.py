"""What a model's own initialization code says of each of its tensors: laws, parts, sources."""

from initclient.torch._record.recorded import Recorded, replay, run
from initclient.torch._record.uncalled import initializes_when_called

__all__ = ["Recorded", "initializes_when_called", "replay", "run"]
