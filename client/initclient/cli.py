"""The command `initclient`: its overview, its exit status, its errors and warnings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from initcore import (
    STREAM_VERSION,
    BackendError,
    CheckpointError,
    MissingPackageError,
    PlanError,
    Violation,
    __version__,
)

from initclient._commands import COMMANDS, RAW, BadInput, os_text
from initclient._commands.terminal import (
    DataCutError,
    Parser,
    add_messages,
    exit_on_signals,
    print_error,
    print_notes,
    printing,
)
from initclient._exceptions import InitserveError

_DESCRIPTION = """\
Initial weights from a plan: the same bits in this process and from every server.

A plan lists tensors with their shapes and distributions, in YAML or JSON:

  seed: 7
  tensors:
    - {name: fc.weight, shape: [4096, 1024], dtype: BF16, scheme: KAIMING_NORMAL, nonlinearity: RELU}
    - {name: fc.bias, shape: [4096], scheme: ZEROS}
"""  # noqa: E501 - the longest line shows a whole tensor

_EXAMPLES = """\
examples:
  initclient describe plan.yaml                         show shapes, fans, standard deviations
  initclient fetch plan.yaml --out init.safetensors     compute the weights here
  initclient fetch plan.yaml --out init.safetensors --target init.ml.svc:50051
                                                        fetch the same bits from a server
  initclient info init.ml.svc:50051                     show a server's version and limits
  initclient fetch plan.yaml --out init.safetensors --target a:50051,b:50051 --ca ca.pem
                                                        fetch from one of two servers, encrypted
  initclient fetch plan.yaml --out model --shard-size 5GB
                                                        write a folder that transformers loads
  initclient verify init.safetensors plan.yaml          compare a file with its plan, to the bit
  initclient recipes                                    list the recipes for kinds of models
  initclient plan trained.safetensors --recipe gpt2 --out plan.yaml
                                                        make a plan with a file's names and shapes
  initclient diff old.yaml new.yaml                     compare two plans and their values
  initclient plot plan.yaml -o report.html              draw the values as a page of figures
  generate-plan | initclient fetch - --out init.safetensors --seed 1
                                                        read the plan from standard input

environment:
  INITSERVE_TARGET      default of --target
  INITSERVE_BACKEND     default of --backend
  INITSERVE_CHECKPOINTS default of --checkpoints
  INITSERVE_TLS=1, INITSERVE_CA, INITSERVE_CERT, INITSERVE_KEY, INITSERVE_TOKEN_FILE
                        used if none of --tls, --ca, --cert, --key and --token-file is given

`initclient COMMAND --help` shows the flags of a command.

exit status: 0 success; 1 failure (no server, damaged data, disk full), or verify or diff found a
difference; 2 wrong plan, file or arguments; 130 interrupted; 141 the reader of the data of
`--out -` closed the pipe before their end.
"""

_SHOWN_VIOLATIONS = 20

# 128 + SIGPIPE, a signal that Windows does not have.
_DATA_CUT = 141


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="initclient", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=RAW
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"initclient {__version__} (stream v{STREAM_VERSION})",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    for command_parser in commands.choices.values():
        add_messages(command_parser)
        command_parser.shorten_usage()
    # For `completion`, which lists all of this.
    parser.set_defaults(parser=parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    with exit_on_signals():
        try:
            options = _parser().parse_args(arguments)
            with printing(options):
                options.run(options)
                sys.stdout.flush()
        except (BadInput, CheckpointError) as error:
            return _failed(error, str(error), 2)
        except PlanError as error:
            heading = f"{error.heading}\n" if error.heading else ""
            return _failed(error, heading + _violations_text(error.violations), 2)
        except DataCutError:
            # As if SIGPIPE had ended the command: the reader has a part of a file alone.
            _drop_output()
            return _DATA_CUT
        except BrokenPipeError:
            # The reader has seen enough, as `head` has.
            _drop_output()
            return 0
        except (InitserveError, BackendError, MissingPackageError) as error:
            return _failed(error, str(error), 1)
        except OSError as error:
            return _failed(error, os_text(error), 1)
        except ValueError as error:
            return _failed(error, str(error), 2)
        except KeyboardInterrupt as error:
            # One line, also with the name of a partial file that was kept.
            return _failed(None, ". ".join(["interrupted", *getattr(error, "__notes__", ())]), 130)
        except SystemExit as error:
            print_notes(error)
            raise
    return 0


def _drop_output() -> None:
    """Drops what is still to be written: Python must not flush into a closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _violations_text(violations: Sequence[Violation]) -> str:
    if len(violations) == 1:
        return str(violations[0])
    lines = [f"there are {len(violations)} errors"]
    lines += [f"  {violation}" for violation in violations[:_SHOWN_VIOLATIONS]]
    if len(violations) > _SHOWN_VIOLATIONS:
        lines.append(f"  ... and {len(violations) - _SHOWN_VIOLATIONS} more")
    return "\n".join(lines)


def _failed(error: BaseException | None, text: str, status: int) -> int:
    print_error(error, text)
    return status
