"""Every setting has a flag and a variable, and a wrong value is named by where it came from."""

from __future__ import annotations

import argparse
import dataclasses
import re

import pytest
from initserver import Limits, ServerConfig
from initserver.cli import main
from initserver.config.flags import Settings, UsageError, add_flags, settings
from initserver.config.server_config import CommandConfig


def chosen(*arguments: str, **environment: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return settings(parser.parse_args(arguments), environment)


def test_nothing_given_means_the_defaults() -> None:
    found = chosen()
    assert found.server == ServerConfig()
    assert found.command == CommandConfig()


@pytest.mark.parametrize(
    ("flag", "text", "part", "field", "value"),
    [
        ("--listen", "127.0.0.1:1", "server", "listen", "127.0.0.1:1"),
        ("--backend", "numpy", "server", "backend", "numpy"),
        ("--threads", "3", "server", "threads", 3),
        ("--grace", "2.5", "server", "grace", 2.5),
        ("--token-file", "tokens", "server", "token_file", "tokens"),
        ("--workers", "4", "command", "workers", 4),
        ("--log-format", "json", "command", "log_format", "json"),
        ("--cache-bytes", "2GiB", "limits", "cache_bytes", 2 << 30),
        ("--cache-bytes", "0", "limits", "cache_bytes", 0),
        ("--max-streams", "7", "limits", "max_streams", 7),
    ],
)
def test_a_flag_and_its_variable_say_the_same(
    flag: str, text: str, part: str, field: str, value: object
) -> None:
    variable = "INITSERVE_" + flag[2:].replace("-", "_").upper()
    for found in (chosen(flag, text), chosen(**{variable: text})):
        where = found.server.limits if part == "limits" else getattr(found, part)
        assert getattr(where, field) == value


def test_a_flag_wins_over_its_variable() -> None:
    assert chosen("--grace", "1", INITSERVE_GRACE="2").server.grace == 1
    assert chosen("--no-insecure", INITSERVE_INSECURE="1").server.insecure is False


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("Yes", True), ("0", False), ("off", False)]
)
def test_a_switch_can_be_a_variable(text: str, value: bool) -> None:
    assert chosen(INITSERVE_INSECURE=text).server.insecure is value


def test_an_empty_variable_is_none() -> None:
    assert chosen(INITSERVE_THREADS="", INITSERVE_TLS_CERT="").server == ServerConfig()


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("grace", "soon", "a number of seconds"),
        ("grace", "-1", "0 or more"),
        ("grace", "nan", "0 or more"),
        ("threads", "many", "a whole number"),
        ("threads", "0", "at least 1"),
        ("workers", "0", "at least 1"),
        ("cache_bytes", "12 parsecs", "256MiB"),
        ("max_tensors", "0", "within 1"),
        ("listen", "here", "HOST:PORT"),
        ("metrics_listen", ":1", "HOST:PORT"),
        ("log_format", "xml", "one of text, json"),
        ("log_level", "loud", "one of debug"),
    ],
)
def test_a_wrong_value_is_named_by_flag_or_variable_with_a_remedy(
    name: str, text: str, remedy: str
) -> None:
    flag, variable = "--" + name.replace("_", "-"), "INITSERVE_" + name.upper()
    for source, given in ((flag, ([f"{flag}={text}"], {})), (variable, ([], {variable: text}))):
        arguments, environment = given
        with pytest.raises(UsageError) as caught:
            chosen(*arguments, **environment)
        message = str(caught.value)
        assert message.startswith(f"{source} is ")
        assert text in message
        assert remedy in message


def test_a_wrong_variable_ends_the_command_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INITSERVE_INSECURE", "perhaps")
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "initserver: error: INITSERVE_INSECURE is 'perhaps'; it must be 1 or 0\n"
    )


def test_help_names_every_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for config in (ServerConfig, CommandConfig, Limits):
        for field in dataclasses.fields(config):
            if field.name != "limits":
                assert f"--{field.name.replace('_', '-')} " in text.replace(",", " ")
                assert f"$INITSERVE_{field.name.upper()})" in text


def test_help_shows_no_value_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INITSERVE_TOKEN_FILE", "/a-place-nobody-should-see")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "/a-place-nobody-should-see" not in capsys.readouterr().out
