"""Plans and chunks as bytes: protobuf messages, plan files, varints and checksums.

Not here: gRPC, which only server and client import.
"""

from initcore.wire.checksum import crc32c
from initcore.wire.conversion import SHORT, Item, plan_of, to_proto
from initcore.wire.plan_file import dump_plan, format_plan, load_plan, parse_plan
from initcore.wire.plan_text import load_yaml
from initcore.wire.varint import read_varint, write_varint

__all__ = [
    "SHORT",
    "Item",
    "crc32c",
    "dump_plan",
    "format_plan",
    "load_plan",
    "load_yaml",
    "parse_plan",
    "plan_of",
    "read_varint",
    "to_proto",
    "write_varint",
]
