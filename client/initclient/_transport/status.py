"""Translates gRPC errors: the error to raise, and whether to call again first.

The next step after each status code and reason is a row of `initcore.wire.statuses`, and so is the
class of the error; here are their texts, and the failures that have no answer of a server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
from initcore import Plan, PlanError, Violation, __version__
from initcore.show import printable
from initcore.wire import Step, status_of

from initclient._exceptions import (
    AuthenticationError,
    BusyError,
    DeadlineError,
    IntegrityError,
    LimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from initclient._plan import KNOWS_NO_SEEDS
from initclient._source import Proxy, Request
from initclient._transport.details import Details, FieldViolation, details_of
from initclient._transport.faults import Fault, Verdict

_PATH = re.compile(r"tensors\[([0-9]{1,9})\]\.(.+)", re.DOTALL)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)")
_NOT_CONNECTED = re.compile("failed to connect|connections to all backends failing", re.IGNORECASE)
# gRPC called a server of another protocol, which answered.
_NOT_GRPC = re.compile("Failed parsing HTTP/2|http1.x server", re.IGNORECASE)
_NO_SUCH_NAME = re.compile("Domain name not found|hostname lookup error", re.IGNORECASE)
_TOO_LONG = re.compile("CLIENT: Received message larger|Decompressed message larger")
_UNKNOWN_NUMBER = re.compile("has the number [0-9]+, which this version does not know")

_VERDICTS = {
    Step.AGAIN: Verdict.AGAIN,
    Step.WAIT: Verdict.BUSY,
    Step.TWICE: Verdict.DIFFERS,
    Step.OTHERS: Verdict.UNFIT,
    Step.FINAL: Verdict.FINAL,
}


@dataclass(frozen=True)
class _Answer:
    """A failed call.

    Attributes:
        code: the name of its status.
        text: the server's sentence, or gRPC's.
        target: the server's address, with the proxy on the way to it.
        progress: the bytes that arrived; empty before the first answer.
        details: the details of the status.
        request: the request that the call is for.
    """

    code: str
    text: str
    target: str
    progress: str
    details: Details
    request: Request

    @property
    def plan(self) -> Plan:
        """The plan of the request."""
        return self.request.layout.plan

    @property
    def where(self) -> str:
        return f" after {self.progress}" if self.progress else ""

    def server_error(self, kind: type[ServerError], text: str) -> ServerError:
        """An error with the code, the reason and the metadata."""
        return kind(text, self.code, self.details.reason, self.details.metadata)


def translate(
    error: grpc.RpcError,
    target: str,
    request: Request,
    progress: str = "",
    encrypted: bool = False,
    proxy: Proxy | None = None,
) -> Fault:
    """The fault of a failed call.

    Args:
        error: gRPC's error.
        target: the server's address.
        request: the request that the call is for.
        progress: the bytes that arrived, such as "3 of 10 bytes"; empty before the first answer.
        encrypted: whether the client used TLS.
        proxy: the proxy on the way to the server.
    """
    # gRPC's asyncio has no code for a number that it does not know.
    code = error.code() or grpc.StatusCode.UNKNOWN
    text = printable(str(error.details() or "no details"))
    where = target if proxy is None else f"{target} through {proxy}"
    answer = _Answer(code.name, text, where, progress, details_of(error), request)
    fault = _fault(answer, encrypted, proxy)
    for raised in (fault.error, fault.in_time):
        if raised is not None:
            raised.__cause__ = error
    return fault


def _fault(answer: _Answer, encrypted: bool, proxy: Proxy | None) -> Fault:
    code, text, details = answer.code, answer.text, answer.details
    row = status_of(code, details.reason)
    pushback = details.pushback
    verdict = _VERDICTS[row.step_after(pushback)]
    if code == "UNAVAILABLE" and (not answer.progress or _NOT_CONNECTED.search(text)):
        error = _unreached(answer, encrypted, proxy)
        if isinstance(error, AuthenticationError):
            return Fault(error, Verdict.UNFIT)
        return Fault(error, verdict, pushback)
    if code == "RESOURCE_EXHAUSTED" and _TOO_LONG.search(text):
        # No server sends messages of this length: a length was damaged in transit.
        return Fault(_broken(answer))
    if code == "INVALID_ARGUMENT" and not details.reason.startswith("MAX_"):
        violations = _violations(answer)
        if violations:
            return Fault(PlanError(violations, heading=_refusal(answer)), verdict)
    if code == "DEADLINE_EXCEEDED":
        # The server may have sent it, or the call may have had less time than the whole fetch.
        return Fault(_late(answer), verdict, pushback, in_time=_unanswered(answer))
    name = "TransportError" if code == "UNAVAILABLE" else row.error_after(pushback)
    return Fault(_ERRORS[name](answer), verdict, pushback)


def _broken(answer: _Answer) -> TransportError:
    return TransportError(f"the connection to {answer.target} broke{answer.where} ({answer.text})")


def _late(answer: _Answer) -> DeadlineError:
    return DeadlineError(f"the timeout expired{answer.where} during a call to {answer.target}")


def _unanswered(answer: _Answer) -> TransportError:
    return TransportError(f"no answer in time from {answer.target}{answer.where} ({answer.text})")


def _limit(answer: _Answer) -> LimitError:
    if answer.details.reason.startswith("MAX_"):
        return _of_limit(answer, f"{answer.target} refuses the plan: {answer.text}")
    return _of_limit(answer, _answered(answer))


def _of_limit(answer: _Answer, text: str) -> LimitError:
    error = answer.server_error(LimitError, text)
    assert isinstance(error, LimitError)
    return error


def _answered(answer: _Answer) -> str:
    return f"{answer.target} answered {answer.code}{answer.where}: {answer.text}"


def _server(answer: _Answer) -> ServerError:
    if answer.code == "UNIMPLEMENTED":
        text = f"{answer.target} is not an initserver, or one of an older version ({answer.text})"
        return answer.server_error(ServerError, text)
    return answer.server_error(ServerError, _answered(answer))


def _differs(answer: _Answer) -> IntegrityError:
    if answer.details.reason == "MODEL_CHANGED":
        # A server that knows seeds of models names the one that it was asked for.
        is_older = answer.request.seed is not None and "seed" not in answer.details.metadata
        more = f"; {KNOWS_NO_SEEDS}" if is_older else ""
        return IntegrityError(f"{answer.target}: {answer.text}{more}")
    version = answer.details.metadata.get("version")
    of = f", initserve {printable(version, 40)}," if version else ""
    return IntegrityError(
        f"{answer.target}{of} reads this plan differently ({answer.text}); is it a server of the "
        "same version of initserve?"
    )


_ERRORS: Mapping[str, Callable[[_Answer], Exception]] = {
    "TransportError": _broken,
    "LimitError": _limit,
    "BusyError": lambda answer: answer.server_error(BusyError, _answered(answer)),
    "ServerError": _server,
    # The violations of a refused plan are lost.
    "PlanError": _server,
    "IntegrityError": _differs,
    "AuthenticationError": lambda answer: AuthenticationError(
        f"{answer.target} refuses this client: {answer.text}{_missing(answer)}"
    ),
}


def _missing(answer: _Answer) -> str:
    """How people give what the server speaks of in terms of the wire."""
    if answer.details.reason != "TOKEN_MISSING":
        return ""
    return ". A file gives the token: --token-file, token_file= or INITSERVE_TOKEN_FILE"


def _unreached(answer: _Answer, encrypted: bool, proxy: Proxy | None) -> Exception:
    """The error without a connection, or of a server that is about to stop."""
    text, target = answer.text, answer.target
    refused = _CERTIFICATE.search(text)
    if refused:
        why = f"the certificate of {target} is not accepted: {refused[1].strip()}"
    elif "Hostname Verification" in text or "is not in peer certificate" in text:
        why = f"the certificate of {target} is for another name or address"
    elif "WRONG_VERSION_NUMBER" in text:
        why = f"{target} does not speak TLS; leave out tls, ca and cert to connect without"
    elif "security handshaker" in text:
        why = "the CA, certificate or key file does not hold a certificate or key in PEM"
        ciphers = os.environ.get("GRPC_SSL_CIPHER_SUITES")
        if ciphers is not None:
            # In brackets: other names are checked before the call.
            why += f", or GRPC_SSL_CIPHER_SUITES, which is {ciphers!r}, has no cipher suite"
    else:
        reason = "connection refused" if "Connection refused" in text else text
        hint = f"Is initserver running at {target}?"
        if proxy is not None:
            hint = (
                f"Does the proxy let this client through? {proxy.variable} names it, and no_proxy "
                "lists the servers that need none; is one of them wrong?"
            )
        elif _NO_SUCH_NAME.search(text):
            reason = f"no address is known for this name: {text}"
            hint = "Is the name right?"
        elif _NOT_GRPC.search(text):
            reason = f"a program that does not speak gRPC listens there: {text}"
            hint = "Is the port right?"
        elif "Socket closed" in text or "Handshake" in text or "Connection reset" in text:
            # A server that rejects the TLS handshake looks like this to the client.
            reason = f"the server closed the connection: {text}"
            want = "a client certificate that it accepts" if encrypted else "TLS"
            hint = f"Does it ask for {want}?"
        return UnavailableError(f"no answer from {target} ({reason}). {hint}")
    return AuthenticationError(why)


def _refusal(answer: _Answer) -> str:
    """The line before the violations of a plan that this client has found right.

    A server of this client's version lacks no scheme, but checkpoints or room: its violations
    say so.
    """
    if answer.details.metadata.get("version") == __version__:
        return ""
    return (
        f"{answer.target} ({_version(answer)}) cannot make this plan, which is right for this "
        f"client (initserve {__version__}):"
    )


def _version(answer: _Answer) -> str:
    version = answer.details.metadata.get("version")
    return f"initserve {printable(version, 40)}" if version else "an older initserve"


def _violations(answer: _Answer) -> list[Violation]:
    """The violations as the server found them."""
    names = list(answer.plan.tensors)
    return [_violation(item, names, answer) for item in answer.details.violations]


def _violation(item: FieldViolation, names: list[str], answer: _Answer) -> Violation:
    field, name, index = item.field, "", None
    match = _PATH.fullmatch(field)
    if match and int(match[1]) < len(names):
        index, field = int(match[1]), match[2]
        name = names[index]
    # The description is the violation as text, which begins with the tensor and field.
    prefix = str(Violation(name, field, ""))
    message = printable(item.description.removeprefix(prefix))
    value = getattr(answer.plan.tensors.get(name), field, None)
    if isinstance(value, str):
        # The server has only the number of a name that is newer than its table.
        known = f"is {value.upper()}, which {_version(answer)} does not know"
        message = _UNKNOWN_NUMBER.sub(lambda _: known, message, count=1)
    return Violation(name, printable(field, 300), message, index)
