"""Plans, chunks and refusals on the wire: messages, plan files, checksums, status codes.

Not here: gRPC, which only server and client import.
"""

from initcore.wire.checksum import crc32c
from initcore.wire.conversion import SHORT, Item, plan_of, to_proto
from initcore.wire.plan_file import dump_plan, format_plan, load_plan, parse_plan
from initcore.wire.plan_text import load_yaml
from initcore.wire.statuses import CODES, REASONS, Status, Step, status_of
from initcore.wire.varint import read_varint, write_varint

__all__ = [
    "CODES",
    "REASONS",
    "SHORT",
    "Item",
    "Status",
    "Step",
    "crc32c",
    "dump_plan",
    "format_plan",
    "load_plan",
    "load_yaml",
    "parse_plan",
    "plan_of",
    "read_varint",
    "status_of",
    "to_proto",
    "write_varint",
]
