"""What a plan draws, for people: describe, diff, plot."""
