"""What recorded code learns from outside: the clock, the machine, and random numbers of others."""

from initclient._laws.surroundings.generators import global_states, numbers_taken
from initclient._laws.surroundings.names import surroundings_watched
from initclient._laws.surroundings.watch import LATER, Watch

__all__ = ["LATER", "Watch", "global_states", "numbers_taken", "surroundings_watched"]
