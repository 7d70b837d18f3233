"""Version 1 of the wire contract: messages and service stubs."""
