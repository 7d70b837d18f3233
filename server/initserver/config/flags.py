"""Flags and environment variables, made from the fields of the configuration.

Every field has both: `max_connection_age` is --max-connection-age and
INITSERVE_MAX_CONNECTION_AGE. A flag wins over its variable.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initserver.config.limits import Limits
from initserver.config.server_config import CommandConfig, ServerConfig

PREFIX = "INITSERVE_"

_CONFIGS: tuple[type[Any], ...] = (ServerConfig, CommandConfig, Limits)
_GROUPS = ("serving", "security", "stopping and connections", "monitoring", "limits")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class UsageError(ValueError):
    """The value of a flag or a variable is invalid; the message names it and what is valid."""


@dataclass(frozen=True)
class Settings:
    """The configuration that flags, variables and defaults give.

    Attributes:
        server: how the server runs.
        command: how the command runs.
        sources: for each field that was given, its flag or its variable.
    """

    server: ServerConfig
    command: CommandConfig
    sources: Mapping[str, str]

    def explain(self, error: Exception) -> str:
        """The error's message; a field's name at its beginning becomes the flag or variable."""
        return _explain(str(error), self.sources)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for every field, in groups."""
    groups = {name: parser.add_argument_group(name) for name in _GROUPS}
    options = sorted(_options(), key=lambda one: one.name in ("workers",))
    for one in options:
        arguments: dict[str, Any] = {"help": _help(one), "default": None, "dest": one.name}
        if one.is_switch:
            arguments["action"] = argparse.BooleanOptionalAction
        elif one.choices:
            arguments["metavar"] = "{" + ",".join(one.choices) + "}"
        else:
            arguments["metavar"] = one.metavar
        groups[one.group].add_argument(one.flag, **arguments)


def settings(options: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """The configuration from parsed flags, variables and defaults.

    Raises:
        UsageError: if a value is invalid.
    """
    given: dict[type[Any], dict[str, Any]] = {config: {} for config in _CONFIGS}
    sources: dict[str, str] = {}
    for one in _options():
        value, source = getattr(options, one.name), one.flag
        if value is None:
            # An empty variable counts as unset: Helm charts render optional values that way.
            value, source = environment.get(one.variable) or None, one.variable
        if value is None:
            continue
        sources[one.name] = source
        given[one.config][one.name] = value if value is True else one.convert(value, source)
    try:
        limits = Limits(**given[Limits])
        server = ServerConfig(limits=limits, **given[ServerConfig])
        command = CommandConfig(**given[CommandConfig])
    except ValueError as error:
        raise UsageError(_explain(str(error), sources)) from error
    return Settings(server, command, sources)


@dataclass(frozen=True)
class _Option:
    """One field, as a flag and as a variable."""

    config: type[Any]
    name: str
    type: str
    default: Any
    metadata: Mapping[str, Any]

    @property
    def flag(self) -> str:
        return str(self.metadata.get("flag", "--" + self.name.replace("_", "-")))

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def group(self) -> str:
        return str(self.metadata.get("group", "limits"))

    @property
    def metavar(self) -> str:
        return str(self.metadata.get("metavar", "BYTES" if self.is_size else "N"))

    @property
    def choices(self) -> Sequence[str]:
        return tuple(self.metadata.get("choices", ()))

    @property
    def is_switch(self) -> bool:
        return self.type == "bool"

    @property
    def is_size(self) -> bool:
        return self.name.endswith("_bytes")

    @property
    def shown_default(self) -> str:
        """The default as the help shows it, "" for none."""
        if self.is_switch or (self.default is None and "shown" not in self.metadata):
            return ""
        if self.is_size:
            return _size_text(self.default)
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return str(self.metadata.get("shown", self.default))

    def convert(self, value: Any, source: str) -> Any:
        """A flag's or a variable's text as the field's type."""
        if isinstance(value, bool):
            return value
        converters: dict[str, tuple[Callable[[str], Any], str]] = {
            "int": (int, "a whole number"),
            "float": (float, "a number of seconds"),
            "bool": (_yes_or_no, "1 or 0"),
        }
        convert, remedy = converters.get(self.type.partition(" |")[0], (str, "text"))
        if self.is_size:
            convert, remedy = _size, "a number of bytes, such as 1048576 or 256MiB"
        elif self.choices and value not in self.choices:
            remedy = f"one of {', '.join(self.choices)}"
            # The error of a wrong backend comes later and lists the backends that exist.
            if self.name != "backend":
                raise UsageError(f"{source} is {value!r}; it must be {remedy}")
        try:
            return convert(value)
        except ValueError:
            raise UsageError(f"{source} is {value!r}; it must be {remedy}") from None


def _options() -> Iterator[_Option]:
    for config in _CONFIGS:
        for field in dataclasses.fields(config):
            if "help" in field.metadata:
                yield _Option(config, field.name, str(field.type), field.default, field.metadata)


def _help(one: _Option) -> str:
    origin = f"${one.variable}"
    default = f"default: {one.shown_default}; " if one.shown_default else ""
    return f"{one.metadata['help']} ({default}{origin})".replace("%", "%%")


def _explain(message: str, sources: Mapping[str, str]) -> str:
    """The message, with the flag or variable in place of a field's name at its beginning."""
    name, space, rest = message.partition(" ")
    flags = {one.name: one.flag for one in _options()}
    if name not in flags or not space:
        return message
    return f"{sources.get(name, flags[name])} {rest}"


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]+) ?([KMGT]iB)?", text.strip())
    if not found:
        raise ValueError
    return int(found[1]) * _UNITS[found[2] or ""]


def _size_text(value: int) -> str:
    for unit, size in reversed(_UNITS.items()):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def _yes_or_no(text: str) -> bool:
    if text.lower() in _YES + _NO:
        return text.lower() in _YES
    raise ValueError
