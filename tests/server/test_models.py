"""Models by name: what a folder of plans offers, and how the server follows its changes."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from initcore import Plan, dump_plan, normal, ones
from initcore.wire import to_proto
from initserve.v1 import service_pb2
from initserve.v1.service_pb2_grpc import InitServiceStub as Stub
from initserver import Server, ServerConfig
from initserver.config import Limits
from initserver.models import Listing, Models, list_models, polling, repository
from initserver.models import listing as listing_module
from initserver.wire import Refusal

from tests.server.processes import wait_for

SMALL = Plan({"w": normal((40, 30)), "b": ones((5,))}, seed=7)
OTHER = Plan({"w": normal((40, 30)), "b": ones((5,))}, seed=8)


@pytest.fixture(autouse=True)
def callers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller gets what the look that it began finds, however busy the machine is."""
    monkeypatch.setattr(polling, "_OLDEST", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    put(root / "acme" / "small", SMALL)
    (root / "acme" / "small" / "config.json").write_text("{}")
    return root


def put(place: Path, plan: Plan) -> None:
    place.mkdir(parents=True, exist_ok=True)
    dump_plan(plan, place / "plan.yaml")


@pytest.fixture
def stub(folder: Path) -> Iterator[Stub]:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, models=str(folder))
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


def fetched(stub: Stub, **fields: object) -> tuple[str, bytes]:
    """The digest and the bytes."""
    request = service_pb2.FetchRequest(**fields)  # type: ignore[arg-type]
    info, *rest = stub.Fetch(request, timeout=60)
    return info.info.plan_digest, b"".join(message.chunk.data for message in rest)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def get(stub: Stub, name: str, digest: str = "") -> service_pb2.GetModelResponse:
    request = service_pb2.GetModelRequest(name=name, expected_digest=digest)
    return stub.GetModel(request, timeout=30)


def digest_of(stub: Stub, name: str) -> str:
    return get(stub, name).info.plan_digest


def test_models_are_listed_with_their_digests(stub: Stub, folder: Path) -> None:
    [model] = stub.ListModels(service_pb2.ListModelsRequest(), timeout=30).models
    assert (model.name, model.plan_digest, model.tensors) == ("acme/small", SMALL.digest, 2)
    whole = get(stub, "acme/small", SMALL.digest)
    assert whole.info == model
    assert whole.plan == to_proto(SMALL)
    assert [(file.name, file.size) for file in whole.files] == [("config.json", 2)]


def test_a_download_by_name_is_the_download_of_the_plan(stub: Stub) -> None:
    by_plan = fetched(stub, plan=to_proto(SMALL))
    by_name = fetched(stub, model="acme/small", expected_digest=SMALL.digest)
    assert by_name == by_plan
    part = fetched(
        stub, model="acme/small", expected_digest=SMALL.digest, read_offset=100, read_limit=77
    )
    assert part == (SMALL.digest, by_plan[1][100:177])


def test_wrong_names_and_digests_are_refused(stub: Stub) -> None:
    code, text = refused(lambda: get(stub, "acme/large"))
    assert (code, "no model 'acme/large'" in text) == (grpc.StatusCode.NOT_FOUND, True)
    code, text = refused(lambda: get(stub, "../../etc/passwd"))
    assert code == grpc.StatusCode.NOT_FOUND
    code, text = refused(lambda: get(stub, "acme/small", OTHER.digest))
    assert (code, SMALL.digest in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    named = {"model": "acme/small", "expected_digest": SMALL.digest}
    code, text = refused(lambda: fetched(stub, **named | {"expected_digest": OTHER.digest}))
    assert (code, SMALL.digest in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    code, text = refused(lambda: fetched(stub, **named | {"expected_digest": ""}))
    assert (code, "without expected_digest" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, text = refused(lambda: fetched(stub, **named, plan=to_proto(SMALL)))
    assert (code, "give one of them" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_server_without_models_has_none() -> None:
    config = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0)
    with Server(config) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        assert not stub.ListModels(service_pb2.ListModelsRequest(), timeout=30).models
        assert refused(lambda: get(stub, "acme/small"))[0] == grpc.StatusCode.NOT_FOUND


def test_a_replaced_plan_is_read_and_the_one_before_stays_by_its_digest(
    stub: Stub, folder: Path
) -> None:
    before = fetched(stub, model="acme/small", expected_digest=SMALL.digest)
    put(folder / "acme" / "small", OTHER)
    wait_for(lambda: digest_of(stub, "acme/small") == OTHER.digest)
    assert fetched(stub, model="acme/small", expected_digest=SMALL.digest) == before
    put(folder / "acme" / "small", Plan(SMALL.tensors, seed=9))
    wait_for(lambda: digest_of(stub, "acme/small") not in (SMALL.digest, OTHER.digest))
    code, _ = refused(lambda: fetched(stub, model="acme/small", expected_digest=SMALL.digest))
    assert code == grpc.StatusCode.FAILED_PRECONDITION


def test_models_come_and_go(stub: Stub, folder: Path) -> None:
    put(folder / "single", OTHER)

    def names() -> list[str]:
        answer = stub.ListModels(service_pb2.ListModelsRequest(), timeout=30)
        return [model.name for model in answer.models]

    wait_for(lambda: names() == ["acme/small", "single"])
    (folder / "acme" / "small" / "plan.yaml").unlink()
    wait_for(lambda: names() == ["single"])


def test_the_swap_of_a_config_map_is_seen(tmp_path: Path) -> None:
    place = tmp_path / "models" / "acme" / "small"
    put(place / "..1", SMALL)
    put(place / "..2", OTHER)
    (place / "..data").symlink_to("..1")
    (place / "plan.yaml").symlink_to("..data/plan.yaml")
    models = Models(str(tmp_path / "models"), Limits())
    assert models.get("acme/small").digest == SMALL.digest
    (place / "..new").symlink_to("..2")
    (place / "..new").rename(place / "..data")
    wait_for(lambda: models.get("acme/small").digest == OTHER.digest)


def test_a_folder_that_is_a_link_is_followed_when_it_is_swapped(tmp_path: Path) -> None:
    put(tmp_path / "1" / "acme" / "small", SMALL)
    put(tmp_path / "2" / "acme" / "small", OTHER)
    current, new = tmp_path / "current", tmp_path / "new"
    current.symlink_to("1")
    models = Models(str(current), Limits())
    assert models.get("acme/small").digest == SMALL.digest
    new.symlink_to("2")
    new.rename(current)
    wait_for(lambda: models.get("acme/small").digest == OTHER.digest)


def test_a_link_to_itself_hides_no_other_model(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder / "single", OTHER)
    for place in (folder / "loop", folder / "acme" / "loop"):
        place.symlink_to("loop")
    models = Models(str(folder), Limits())
    assert [model.name for model in models.all()] == ["acme/small", "single"]
    for name in ("loop", "acme/loop"):
        assert f"the model {name} is not read: it cannot be read" in caplog.text


def test_models_stay_while_their_organization_cannot_be_read(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = Models(str(folder), Limits())
    (folder / "acme").rename(tmp_path / "moved")
    (folder / "acme").symlink_to("acme")
    # Once after the first look, and twice more.
    for _ in range(3):
        time.sleep(1.1)
        assert [model.name for model in models.all()] == ["acme/small"]
    assert caplog.text.count("the model acme is not read") == 1
    (folder / "acme").unlink()
    (folder / "acme").symlink_to(tmp_path / "moved")
    time.sleep(1.1)
    assert [model.name for model in models.all()] == ["acme/small"]
    assert "the model acme is not read: it is a link that leads out" in caplog.text


def test_a_name_forges_no_line_of_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(folder / "a\nERROR forged", OTHER)
    Models(str(folder), Limits())
    assert "other characters than letters" in caplog.text
    assert "\nERROR forged" not in caplog.text


@pytest.mark.parametrize(
    "text",
    ["seed: 7\ntensors:\n- {name: w, sha", "", "tensors: 3\n", "\x00"],
    ids=["cut", "empty", "wrong", "no text"],
)
def test_a_plan_that_cannot_be_used_leaves_the_one_before(folder: Path, text: str) -> None:
    models = Models(str(folder), Limits())
    (folder / "acme" / "small" / "plan.yaml").write_text(text)
    # Once after the first look, and once more.
    for _ in range(2):
        time.sleep(1.1)
        assert [model.digest for model in models.all()] == [SMALL.digest]
    put(folder / "acme" / "small", OTHER)
    wait_for(lambda: models.get("acme/small").digest == OTHER.digest)


def test_a_new_plan_is_read_when_its_file_has_settled(folder: Path) -> None:
    models = Models(str(folder), Limits())
    place = folder / "acme" / "new"
    place.mkdir()
    text = SMALL.to_yaml()
    path = place / "plan.yaml"
    # Its first line is a plan of no tensors.
    path.write_text(text.partition("\n")[0] + "\n")
    written = time.time() + 3600
    os.utime(path, (written, written))
    time.sleep(1.1)
    assert [model.name for model in models.all()] == ["acme/small"]
    path.write_text(text)
    wait_for(lambda: [m.digest for m in models.all()] == [SMALL.digest, SMALL.digest])


def test_places_outside_the_folder_and_odd_files_are_not_served(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "outside", OTHER)
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "acme" / "file").mkdir()
    (folder / "acme" / "file" / "plan.yaml").symlink_to(tmp_path / "outside" / "plan.yaml")
    (folder / "acme" / "loop").symlink_to(folder / "acme")
    (folder / "acme" / "gone").mkdir()
    (folder / "acme" / "gone" / "plan.yaml").symlink_to("nothing")
    (folder / "acme" / "pipe").mkdir()
    os.mkfifo(folder / "acme" / "pipe" / "plan.yaml")
    for name in ("a b", "x..y", "-dash", "ü", "a--b"):
        put(folder / "acme" / name, OTHER)
    put(folder / ".hidden", OTHER)
    put(folder / "too" / "deep" / "down", OTHER)
    (folder / "acme" / "small" / "out.json").symlink_to("/etc/passwd")
    found = list_models(str(folder))
    assert list(found.plans) == ["acme/small"]
    assert set(found.refused) == {
        "linked",
        *(f"acme/{name}" for name in ("file", "gone", "pipe", "a b", "x..y", "-dash", "ü", "a--b")),
    }
    models = Models(str(folder), Limits())
    [model] = models.all()
    assert models.files(model) == [("config.json", 2)]
    assert "leads out of the folder" in caplog.text
    assert "not a regular file" in caplog.text


def test_a_link_within_the_folder_is_served(folder: Path) -> None:
    (folder / "acme" / "latest").symlink_to("small")
    assert list(list_models(str(folder)).plans) == ["acme/latest", "acme/small"]


def test_a_plan_above_the_limits_is_named_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "acme" / "huge", Plan({f"t{i}": ones((1,)) for i in range(3000)}))
    models = Models(str(folder), Limits(max_request_bytes=64 << 10, max_header_bytes=100_000))
    assert [model.name for model in models.all()] == ["acme/small"]
    assert "acme/huge is not read: its plan cannot be used" in caplog.text
    monkeypatch.setattr(listing_module, "MOST_PLAN_BYTES", 1000)
    assert "a plan file may have 1000" in list_models(str(folder)).refused["acme/huge"]


def test_a_folder_that_is_missing_or_too_full_stops_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"models is .*No such file"):
        Models(str(folder / "nowhere"), Limits())
    put(folder / "second", OTHER)
    monkeypatch.setattr(listing_module, "MOST_MODELS", 1)
    with pytest.raises(ValueError, match="it has 2 models; a server takes 1"):
        Models(str(folder), Limits())
    monkeypatch.setattr(listing_module, "MOST_ENTRIES", 0)
    with pytest.raises(ValueError, match="more than 0 folders"):
        Models(str(folder), Limits())


def test_a_folder_that_fills_up_leaves_the_models(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    models = Models(str(folder), Limits())
    monkeypatch.setattr(listing_module, "MOST_MODELS", 0)
    time.sleep(1.1)
    assert [model.name for model in models.all()] == ["acme/small"]
    assert "so the models stay" in caplog.text


def test_an_unknown_name_is_escaped(folder: Path) -> None:
    with pytest.raises(Refusal) as caught:
        Models(str(folder), Limits()).get("\x1b[2J" + "x" * 500)
    assert "\x1b" not in caught.value.details
    assert len(caught.value.details) < 300


def like_a_model(number: int, seed: int) -> Plan:
    """21 tensors of a small language model; one of them has a shape of its own."""
    width = 8
    layer = {
        "input_layernorm.weight": ones((width,)),
        "self_attn.q_proj.weight": normal((width, width), std=0.02, dtype="bf16"),
        "self_attn.k_proj.weight": normal((4, width), std=0.02, dtype="bf16"),
        "self_attn.v_proj.weight": normal((4, width), std=0.02, dtype="bf16"),
        "self_attn.o_proj.weight": normal((width, width), std=0.02, dtype="bf16"),
        "post_attention_layernorm.weight": ones((width,)),
        "mlp.gate_proj.weight": normal((16, width), std=0.02, dtype="bf16"),
        "mlp.up_proj.weight": normal((16, width), std=0.02, dtype="bf16"),
        "mlp.down_proj.weight": normal((width, 16), std=0.02, dtype="bf16"),
    }
    tensors = {"model.embed_tokens.weight": normal((100 + number, width), std=0.02, dtype="bf16")}
    for at in range(2):
        tensors |= {f"model.layers.{at}.{name}": tensor for name, tensor in layer.items()}
    tensors |= {"model.norm.weight": ones((width,)), "lm_head.weight": normal((100, width))}
    return Plan(tensors, seed)


def test_a_thousand_models(tmp_path: Path) -> None:
    """Processor time: other programs run beside the tests."""
    for number in range(1000):
        put(tmp_path / f"org{number % 10}" / f"model{number}", like_a_model(number, number))
    began = time.process_time()
    models = Models(str(tmp_path), Limits())
    start = time.process_time() - began
    before = {model.name: model.digest for model in models.all()}
    assert len(set(before.values())) == 1000
    for number in range(0, 1000, 2):
        other = like_a_model(number, number + 5000)
        put(tmp_path / f"org{number % 10}" / f"model{number}", other)
    time.sleep(1.1)
    began = time.process_time()
    after = models.all()
    again = time.process_time() - began
    assert sum(before[model.name] != model.digest for model in after) == 500
    # Nothing has changed, and all of it is looked at.
    time.sleep(1.1)
    began = time.process_time()
    models.all()
    look = time.process_time() - began
    print(f"start {start:.2f} s, reload {again:.2f} s, look {look * 1000:.1f} ms")
    assert start < 2
    assert again < 2
    assert look < 0.2


def test_a_thousand_models_are_listed_within_50_ms(tmp_path: Path) -> None:
    """The median of 25 calls; a machine that pauses gets two more rounds."""
    for number in range(1000):
        put(tmp_path / f"org{number % 10}" / f"model{number}", like_a_model(number, number))
    settings = ServerConfig(listen="127.0.0.1:0", backend="numpy", grace=0, models=str(tmp_path))
    with Server(settings) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        for _ in range(3):
            seconds = []
            for _ in range(25):
                began = time.perf_counter()
                assert len(stub.ListModels(service_pb2.ListModelsRequest()).models) == 1000
                seconds.append(time.perf_counter() - began)
            print(f"median {statistics.median(seconds) * 1000:.1f} ms, max {max(seconds):.3f} s")
            if statistics.median(seconds) < 0.05:
                return
    raise AssertionError(f"the last 25 took {sorted(seconds)} s")


def test_nobody_waits_until_many_models_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_OLDEST", 60)
    for number in range(300):
        put(tmp_path / f"model{number}", Plan(SMALL.tensors, seed=number))
    models = Models(str(tmp_path), Limits())
    before = {model.digest for model in models.all()}
    for number in range(300):
        put(tmp_path / f"model{number}", Plan(SMALL.tensors, seed=number + 5000))
    time.sleep(1.1)
    monkeypatch.setattr(polling, "_PATIENCE", 0)
    may_look = threading.Event()

    def later(folder: str) -> Listing:
        assert may_look.wait(60)
        return list_models(folder)

    # However long the caller stands still, the look has not ended.
    monkeypatch.setattr(repository, "list_models", later)
    began = time.thread_time()
    assert {model.digest for model in models.all()} == before
    assert time.thread_time() - began < 0.02
    may_look.set()
    models.close()
    assert {model.digest for model in models.all()}.isdisjoint(before)


def test_a_digest_that_a_look_is_about_to_find_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_OLDEST", 60)
    monkeypatch.setattr(polling, "_PATIENCE", 0)
    models = Models(str(folder), Limits())
    put(folder / "acme" / "small", OTHER)
    time.sleep(1.1)
    assert models.get("acme/small", OTHER.digest).digest == OTHER.digest
    assert models.get("acme/small", SMALL.digest).digest == SMALL.digest
