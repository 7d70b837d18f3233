"""Comparison of elements with a plan, and the report of `verify`."""
