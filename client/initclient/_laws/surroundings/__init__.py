"""What recorded code learns from outside: the clock, the machine, and random numbers of others."""

from initclient._laws.surroundings.names import surroundings_watched
from initclient._laws.surroundings.watch import LATER, Watch

__all__ = ["LATER", "Watch", "surroundings_watched"]
