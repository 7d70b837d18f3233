"""Whatever is sent, others wait no longer: `tests/server/fuzz.py` with fewer requests."""

from __future__ import annotations

import pytest

from tests.server.fuzz import at, fuzz


@pytest.mark.parametrize("tokens", [False, True])
def test_random_requests_and_the_largest_ones_keep_nobody_waiting(tokens: bool) -> None:
    """Where the server takes tokens, half of the attackers have one."""
    quiet, attacked, attack = fuzz(seed=7, count=800, quiet_seconds=3, tokens=tokens)
    answers = attack.answers
    assert answers.total() == 800
    assert len(answers) > 3
    assert (answers["UNAUTHENTICATED"] > 200) == tokens
    assert answers["OK"] > 20
    report = f"without attack: {quiet}; attacked: {attacked}; {answers}"
    # Processor time, which other work on the machine does not change.
    assert attacked.held_cpu < 0.25, report
    assert attacked.longest[0].cpu == attacked.held_cpu
    for name, latencies in attacked.latencies.items():
        assert len(latencies) > 20, report
        # Half a second, and what the machine's other work adds.
        assert at(latencies, 0.9) < 500 + at(quiet.latencies[name], 0.99), report
        assert latencies[-1] < 5, report
