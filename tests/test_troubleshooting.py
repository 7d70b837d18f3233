"""The page of troubleshooting has the texts that people see: each error is provoked here."""

from __future__ import annotations

import fcntl
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from initclient.cli import main as initclient
from initserver import Limits, Server, ServerConfig
from initserver.cli import main as initserver
from torch import nn

from tests.server.certificates import Authority

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
ERRORS = re.findall(r"^### `(.*)`$", PAGE.split("## What the error says")[1], re.MULTILINE)

# What stands on the page for something of the reader's.
PLACEHOLDERS = {
    "HOST:PORT": r"\S+:\d+",
    "CLASS": r"\w+",
    "SHAPE": r"\[.*\]",
    "FOLDER": r"\S+",
    "FILE": r"\S+",
    "N": r"\d+",
    "M": r"\d+",
}

PLAN = ic.Plan(
    seed=7, tensors={"v": ic.normal((4, 4)), "w": ic.normal((4, 4)), "b": ic.zeros((4,))}
)
Provoke = Callable[[Path], object]


@contextmanager
def serving(**settings: object) -> Iterator[str]:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=5, **settings)  # type: ignore[arg-type]
    with Server(config) as server:
        yield server.address


def nobody_listens(folder: Path) -> None:
    with serving() as address:
        pass
    ic.fetch(PLAN, target=address, retry=ic.Retry(attempts=1))


def tls_to_a_plain_server(folder: Path) -> None:
    ca = folder / "ca.pem"
    ca.write_bytes(Authority().pem)
    with serving() as address:
        ic.fetch(PLAN, target=address, credentials=ic.Credentials(ca=str(ca)))


def call_with(token: str | None, folder: Path) -> None:
    tokens = folder / "tokens"
    tokens.write_text("trainer:0123456789abcdef0123\n")
    tokens.chmod(0o600)
    credentials = ic.Credentials(token=token)
    with serving(token_file=str(tokens)) as address:
        ic.fetch(PLAN, target=address, credentials=credentials)


def above_a_limit(folder: Path) -> None:
    with serving(limits=Limits(max_tensors=1)) as address:
        ic.fetch(PLAN, target=address)


def no_cupy(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        ic.fetch(PLAN, target="local", backend="cupy")


def truth_for_a_number(folder: Path) -> None:
    plan = folder / "plan.yaml"
    plan.write_text("tensors:\n- {name: w, shape: [2], scheme: NORMAL, std: yes}\n")
    ic.load_plan(plan)


def rules_for_some_tensors(folder: Path) -> None:
    ic.fetch_file(PLAN, folder / "init.safetensors", target="local")
    ic.plan_from_safetensors(folder / "init.safetensors", [ic.rule("b", ic.zeros)])


class Scale(nn.Module):
    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(size))


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(4.0))


def buffer_without_code(folder: Path) -> None:
    with torch.device("meta"):
        model = Table()
    ict.init_(model, ic.Plan(seed=7, tensors={}), target="local", device="cpu")


def another_seed(folder: Path) -> None:
    ic.fetch_file(PLAN, folder / "init.safetensors", target="local")
    ic.verify(folder / "init.safetensors", PLAN.with_seed(8), target="local")


def two_writers(folder: Path) -> None:
    with (folder / "init.safetensors.initserve.journal").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ic.fetch_file(PLAN, folder / "init.safetensors", target="local")


def local(plan: object) -> None:
    ic.fetch(plan, target="local")  # type: ignore[call-overload]


# The first words of each heading, and what a person did.
PROVOKED: dict[str, Provoke] = {
    "cannot read": lambda folder: initclient(["describe", str(folder / "none.yaml")]),
    "no answer": nobody_listens,
    "so other machines": lambda _: initserver(["--listen", "0.0.0.0:0"]),
    "HOST:PORT does not": tls_to_a_plain_server,
    "this server requires": lambda folder: call_with(None, folder),
    "this server does not know": lambda folder: call_with("another", folder),
    "the plan has more": above_a_limit,
    "needs CuPy": no_cupy,
    "did you mean": lambda _: ic.kaiming_normal((4, 4), mode="fan_inn"),  # type: ignore[arg-type]
    "the shape is": lambda _: ic.normal(4, 4),
    "Fan in": lambda _: local({"b": ic.kaiming_normal((4,))}),
    "is yes": truth_for_a_number,
    "no rule covers this tensor": rules_for_some_tensors,
    "no rule covers this parameter": lambda _: ict.plan(Scale()),
    "the model has": lambda _: ict.init_(Scale(), ic.Plan(seed=7, tensors={})),
    "in the plan": lambda _: ict.init_(Scale(5), {"scale": ic.ones((4,))}),
    "this buffer": buffer_without_code,
    "N of M": another_seed,
    "another process": two_writers,
    "the folder": lambda folder: ic.fetch_file(PLAN, folder / "none" / "init.safetensors"),
}


def pattern(heading: str) -> str:
    words = re.split(r"\b(" + "|".join(PLACEHOLDERS) + r")\b", heading)
    return "".join(PLACEHOLDERS.get(word) or re.escape(word) for word in words)


def test_every_error_of_the_page_is_provoked_here() -> None:
    found = [[start for start in PROVOKED if heading.startswith(start)] for heading in ERRORS]
    assert [len(starts) for starts in found] == [1] * len(PROVOKED)


@pytest.mark.parametrize("heading", ERRORS)
def test_people_see_what_the_page_says(
    heading: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (provoke,) = (act for start, act in PROVOKED.items() if heading.startswith(start))
    try:
        status = provoke(tmp_path)
    except Exception as error:
        text = str(error)
    else:
        text = capsys.readouterr().err
        assert status == 2, f"nothing was wrong: {text}"
    assert re.search(pattern(heading), text), text
