"""What a server can be configured to do: fields, limits, flags and environment variables."""
