"""Public names and signatures of every release are still there: changes are additions."""

from __future__ import annotations

import json

import pytest

from tests.signatures.public import FOLDER, public

RELEASES = sorted(FOLDER.glob("*.json"))
KEYWORD = ("KEYWORD_ONLY", "VAR_KEYWORD")


def test_there_are_releases_to_compare_with() -> None:
    assert "0.2.0" in {path.stem for path in RELEASES}


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_names_and_signatures_are_those_of_the_release_and_more(
    path: pytest.FixtureRequest,
) -> None:
    now = public()
    for name, before in json.loads(path.read_text()).items():
        assert name in now, f"{name} is gone"
        after = now[name]
        if before is None or after is None:
            assert before is after, f"{name} was {before} and is {after}"
            continue
        old_names = [parameter[0] for parameter in before]
        kept = [parameter for parameter in after if parameter[0] in old_names]
        positional = [p for p in kept if p[1] not in KEYWORD]
        assert positional == [p for p in before if p[1] not in KEYWORD], name
        assert sorted(kept) == sorted(before), name
        for parameter, kind, default in after:
            is_new = parameter not in old_names
            assert not is_new or (kind == "KEYWORD_ONLY" and default != "required"), (
                f"{name} has the new parameter {parameter}, which is no optional keyword"
            )


def test_a_release_lists_what_people_call() -> None:
    listed = json.loads((FOLDER / "0.2.0.json").read_text())
    assert ["seed", "KEYWORD_ONLY", "None"] in listed["initclient.fetch"]
    assert listed["initclient.Plan.shard"] is not None
