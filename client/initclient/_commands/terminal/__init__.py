"""The terminal of a command: its parser, signals, standard output, and what -q and -v print."""

from initclient._commands.terminal.kept_inputs import refuse_as_output, weights_at
from initclient._commands.terminal.messages import (
    add_messages,
    print_error,
    print_note,
    print_notes,
    printing,
    say,
    show,
)
from initclient._commands.terminal.parser import Parser
from initclient._commands.terminal.signals import exit_on_signals
from initclient._commands.terminal.standard_output import (
    STANDARD_OUTPUT,
    DataCutError,
    binary_output,
    write_data,
)

__all__ = [
    "STANDARD_OUTPUT",
    "DataCutError",
    "Parser",
    "add_messages",
    "binary_output",
    "exit_on_signals",
    "print_error",
    "print_note",
    "print_notes",
    "printing",
    "refuse_as_output",
    "say",
    "show",
    "weights_at",
    "write_data",
]
