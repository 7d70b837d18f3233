"""What a recording must not be fooled by: each is right in the plan, or refused by name."""

from __future__ import annotations

import contextlib
import copy
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import init as torch_init
from torch.nn.init import trunc_normal_  # a reference from before any recording

CPU_AND_META = pytest.mark.parametrize("device", ["meta", "cpu"])


class Holder(nn.Module):
    """One parameter that a function makes."""

    def __init__(self, make: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(make())


def refusal(make: Callable[[], torch.Tensor], device: str = "meta") -> str:
    """The text of the error that names the parameter."""
    with pytest.raises(ic.PlanError) as caught:
        ict.record(Holder, make, device=device).plan()
    (violation,) = caught.value.violations
    assert violation.tensor == "weight"
    assert "test_recording_traps.py:" in violation.message
    return violation.message


def recording_error(build: Callable[[], Any], device: str = "meta") -> str:
    """The text of the error that ends the recording."""
    with pytest.raises(ic.PlanError) as caught:
        ict.record(build, device=device)
    return str(caught.value)


def bert() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=50, intermediate_size=48, **sizes)
    return transformers.BertForMaskedLM(config)


def test_a_constructor_and_a_rerun_are_recorded_as_what_each_of_them_does() -> None:
    """A rerun of the initialization of a tied BERT need not do what the constructor did."""
    constructed = ict.record(bert).plan().tensors["cls.predictions.decoder.weight"]
    assert (constructed.scheme, constructed.zero_rows) == ("normal", (0,))

    def rerun() -> nn.Module:
        model = bert()
        nn.init.normal_(model.cls.predictions.decoder.weight, std=0.02)
        return model

    again = ict.record(rerun).plan().tensors["cls.predictions.decoder.weight"]
    assert (again.scheme, again.zero_rows) == ("normal", None)


def test_a_write_to_the_computed_weight_of_weight_norm_writes_to_a_temporary() -> None:
    def build() -> nn.Module:
        layer = nn.Conv1d(4, 8, 3)
        normed = nn.utils.parametrizations.weight_norm(layer)
        nn.init.normal_(normed.weight, std=100.0)
        return normed

    tensors = ict.record(build).plan().tensors
    direction = tensors["parametrizations.weight.original1"]
    assert (direction.scheme, direction.b) == ("uniform", pytest.approx(12**-0.5))
    length = tensors["parametrizations.weight.original0"]
    assert length.parts == (("parametrizations.weight.original1", direction),)


def test_a_norm_follows_the_rule_for_what_it_is_the_norm_of() -> None:
    recording = ict.record(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)))
    name = "parametrizations.weight.original"
    for rules in ([], [ict.rule("*original1", ic.normal, std=3.0)]):
        values = ic.fetch(recording.plan(seed=1, rules=rules), target="local")
        wanted = np.linalg.norm(values[f"{name}1"], axis=1, keepdims=True)
        assert values[f"{name}0"] == pytest.approx(wanted)
    with pytest.raises(ic.PlanError, match=r"original0.*is the norm of .*original1, which"):
        recording.plan(rules=[ict.rule("*original1", ict.given)])


@CPU_AND_META
def test_layers_that_are_deep_copies_share_their_draws(device: str) -> None:
    layer = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}
    plan = ict.record(
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), 2), device=device
    ).plan(seed=3)
    values = ic.fetch(plan, target="local")
    names = [name.removeprefix("layers.0.") for name in plan if name.startswith("layers.0.")]
    assert len(names) == 12
    for name in names:
        assert (values[f"layers.0.{name}"] == values[f"layers.1.{name}"]).all(), name
    torch.manual_seed(0)
    plain = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), 2)
    assert torch.equal(plain.layers[0].linear1.weight, plain.layers[1].linear1.weight)


def test_a_rule_for_one_of_two_copies_leaves_the_other_its_own_draw() -> None:
    layer = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}
    recording = ict.record(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), 3))
    rules = [ict.rule("layers.0.linear1.weight", ic.uniform, a=-1, b=1)]
    values = ic.fetch(recording.plan(seed=3, rules=rules), target="local")
    first, second, third = (values[f"layers.{i}.linear1.weight"] for i in range(3))
    assert (second == third).all()
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3


def test_a_deep_copy_of_a_tensor_that_is_no_parameter_is_a_copy_too() -> None:
    class Copied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            drawn = torch.randn(4)
            self.register_buffer("one", drawn)
            self.register_buffer("two", copy.deepcopy(drawn))

    for device in ("meta", "cpu"):
        tensors = ict.record(Copied, device=device).plan().tensors
        assert tensors["two"].stream == "one"


def test_a_draw_that_is_repeated_after_arithmetic_is_no_draw_of_each_element() -> None:
    twice = "one draw in several places"
    assert twice in refusal(lambda: torch.cat([x := torch.randn(1, 32), 2 * x]))
    assert twice in refusal(lambda: torch.cat([x := torch.rand(2, 3), x.add(1).log()]))
    assert twice in refusal(lambda: torch.randn(32)[torch.tensor([0, 1, 1, 2, 0, 3])])
    assert "combines two draws" in refusal(lambda: (x := torch.randn(3)) + x)


def test_a_censored_normal_is_no_truncated_one() -> None:
    found = ict.record(Holder, lambda: torch.randn(800).clamp_(-1, 1)).plan(seed=1)
    assert found.tensors["weight"].scheme == "apply"
    values = ic.fetch(found, target="local")["weight"]
    assert 0.25 < (abs(values) == 1).mean() < 0.4


def test_functions_that_no_plan_computes_are_named_with_their_line() -> None:
    assert "no scheme has sin(normal(mean=0, std=1))" in refusal(lambda: torch.randn(8).sin())
    message = refusal(lambda: torch.rand(8).sub(1).log())
    assert "no scheme has log(uniform(a=-1, b=0))" in message
    assert "takes values above 0" in message
    assert "eye(gain=1)" in refusal(lambda: nn.init.eye_(torch.empty(3, 3)).exp())


@CPU_AND_META
def test_draws_without_a_scheme_are_named_and_others_beside_them_are_right(device: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coins = nn.Parameter(torch.bernoulli(torch.full((9,), 0.5)))
            self.wide = nn.Parameter(torch.empty(9).cauchy_())
            self.weight = nn.Parameter(torch.randn(9))

    recording = ict.record(Mixed, device=device)
    assert list(recording.refused) == ["coins", "wide"]
    assert "bernoulli" in recording.refused["coins"]
    assert "cauchy" in recording.refused["wide"]
    rules = [ict.rule("coins", ic.zeros), ict.rule("wide", ic.zeros)]
    assert recording.plan(rules=rules).tensors["weight"].scheme == "normal"


@CPU_AND_META
def test_values_from_numpy_or_random_are_not_taken_for_constants(device: str) -> None:
    assert "differ between two runs" in refusal(lambda: torch.tensor(np.random.rand(3)), device)
    message = refusal(lambda: torch.full((3,), random.random()), device)
    assert "differ between two runs" in message
    fresh = refusal(lambda: torch.from_numpy(np.random.default_rng().normal(size=4)), device)
    assert "differ between two runs" in fresh
    std = refusal(lambda: torch.empty(4).normal_(std=random.SystemRandom().random()), device)
    assert "differ between two runs" in std


def test_the_use_of_other_generators_is_noted() -> None:
    def build() -> nn.Module:
        random.random()
        np.random.rand()
        torch.manual_seed(3)
        return nn.Linear(2, 2)

    notes = "\n".join(ict.record(build).notes)
    assert "numpy.random" in notes
    assert "Python's random" in notes
    assert "seeds torch's generator" in notes
    assert ict.record(lambda: nn.Linear(2, 2)).notes == ()


def test_the_random_states_of_the_process_are_as_before() -> None:
    def build() -> nn.Module:
        random.random()
        np.random.rand()
        return nn.Linear(2, 2)

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    ict.record(build, device="cpu")
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_a_value_that_depends_on_the_time_is_refused() -> None:
    message = refusal(lambda: torch.full((3,), float(time.perf_counter_ns() % 1000003)))
    assert "depend on the time" in message


@CPU_AND_META
def test_a_generator_of_the_model_s_own_is_refused(device: str) -> None:
    def make() -> torch.Tensor:
        own = torch.Generator().manual_seed(1)
        return torch.empty(4).normal_(generator=own)

    assert "torch.Generator of the model's own" in refusal(make, device)

    def truncated() -> torch.Tensor:
        return trunc_normal_(torch.empty(4), generator=torch.Generator().manual_seed(1))

    assert "torch.Generator of the model's own" in refusal(truncated, device)


@CPU_AND_META
def test_memory_that_is_never_written_is_refused(device: str) -> None:
    assert "nothing has written it" in refusal(lambda: torch.empty(4), device)
    assert "nothing has written it" in refusal(lambda: torch.Tensor(4), device)

    def half() -> torch.Tensor:
        made = torch.empty(4)
        made[:2] = 0
        return made

    assert "nothing has written a part" in refusal(half, device)

    def half_drawn() -> torch.Tensor:
        made = torch.empty(4)
        made[:2].normal_()
        return made

    assert "never written" in refusal(half_drawn, device)


@CPU_AND_META
@pytest.mark.parametrize(
    "read",
    [
        lambda w: w[0].item(),
        lambda w: float(w.sum()),
        lambda w: bool((w > 0).any()),
        lambda w: w.tolist(),
        lambda w: w.numpy(),
        lambda w: np.asarray(w),
        lambda w: torch.equal(w, w + 1),
        lambda w: [1] if w.max() > 0 else [2],
        lambda w: int(w.abs().argmax()),
    ],
)
def test_the_value_of_a_draw_is_refused_with_its_line(
    read: Callable[[torch.Tensor], Any], device: str
) -> None:
    def build() -> nn.Module:
        drawn = torch.randn(4)
        read(drawn)
        return Holder(lambda: drawn)

    message = recording_error(build, device)
    assert "needs the value of a tensor at" in message
    assert "test_recording_traps.py:" in message
    assert "normal(mean=0, std=1)" in message


def test_a_refusal_that_the_model_s_code_catches_still_ends_the_recording() -> None:
    def build() -> nn.Module:
        with contextlib.suppress(Exception):
            float(torch.randn(()))
        return nn.Linear(2, 2)

    assert "needs the value" in recording_error(build)


@CPU_AND_META
def test_a_rejection_loop_is_refused(device: str) -> None:
    def make() -> torch.Tensor:
        drawn = torch.randn(16)
        while (drawn.abs() > 2).any():
            drawn = torch.where(drawn.abs() > 2, torch.randn(16), drawn)
        return drawn

    assert "needs the value of a tensor" in recording_error(lambda: Holder(make), device)
    once = refusal(
        lambda: torch.where((x := torch.randn(16)).abs() > 2, torch.randn(16), x), device
    )
    assert "at random" in once or "no law" in once


def test_data_that_change_behind_torch_s_back_are_refused() -> None:
    def make() -> torch.Tensor:
        array = np.zeros(4)
        made = torch.from_numpy(array)
        array[:] = 1.0
        return made

    assert "changed afterwards through their NumPy array" in recording_error(lambda: Holder(make))


def test_a_write_through_numpy_is_an_error_on_meta_and_found_on_the_cpu() -> None:
    def make() -> torch.Tensor:
        made = torch.zeros(4)
        made.numpy()[:] = np.arange(4.0)
        return made

    with pytest.raises(ValueError, match="read-only") as caught:
        ict.record(Holder, make)
    assert "device='cpu'" in caught.value.__notes__[0]
    assert "tensor.numpy()" in refusal(make, "cpu")


def test_code_that_asks_for_the_device_sees_the_cpu() -> None:
    """Otherwise models that skip their initialization on meta would be recorded without it."""

    def make() -> torch.Tensor:
        made = torch.empty(4, device="cuda")
        if made.is_meta or made.device.type != "cpu":
            return made.fill_(7)
        return made.normal_(std=0.5)

    plan = ict.record(Holder, make).plan()
    assert (plan.tensors["weight"].scheme, plan.tensors["weight"].std) == ("normal", 0.5)


def test_initializers_are_seen_through_references_of_any_kind() -> None:
    saved = torch_init.orthogonal_

    def make() -> torch.Tensor:
        return torch.cat([trunc_normal_(torch.empty(3, 4)), saved(torch.empty(3, 4))])

    parts = ict.record(Holder, make).plan().tensors["weight"].parts or ()
    assert [part.scheme for _, part in parts] == ["trunc_normal", "orthogonal"]


INITIALIZERS = ("_no_grad_trunc_normal_", "orthogonal_", "sparse_", "eye_", "dirac_")


def codes() -> list[Any]:
    return [getattr(torch_init, name).__code__ for name in INITIALIZERS]


def test_changes_of_the_process_are_undone_also_after_an_error() -> None:
    before = codes()

    def build() -> nn.Module:
        assert codes() != before
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        ict.record(build)
    assert codes() == before
    torch.manual_seed(3)
    drawn = torch_init.orthogonal_(torch.empty(4, 4))
    assert torch.allclose(drawn @ drawn.T, torch.eye(4), atol=1e-5)


def test_other_threads_draw_as_always_while_one_records() -> None:
    torch.manual_seed(3)
    expected = torch_init.trunc_normal_(torch.empty(50))
    found: list[torch.Tensor] = []

    def draw() -> None:
        torch.manual_seed(3)
        found.append(torch_init.trunc_normal_(torch.empty(50)))

    def build() -> nn.Module:
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
        return nn.Linear(2, 2)

    ict.record(build)
    assert len(found) == 2
    assert all(torch.equal(one, expected) for one in found)


def test_two_threads_record_one_after_the_other() -> None:
    plans: list[ic.Plan] = []

    def run() -> None:
        plans.append(ict.record(nn.Linear, 3, 3).plan())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert plans == [plans[0]] * 4
    assert all(code is before for code, before in zip(codes(), codes(), strict=True))


def test_a_recording_within_a_recording_is_refused() -> None:
    def build() -> nn.Module:
        return ict.record(nn.Linear, 2, 2).model

    assert "a recording runs in this thread already" in recording_error(build)


def test_a_model_that_is_built_already_shows_the_line_that_records_it() -> None:
    with pytest.raises(ic.PlanError, match=r"ict\.record\(Linear, \.\.\.\)"):
        ict.record(nn.Linear(2, 2))


def test_values_from_before_the_recording_are_refused() -> None:
    for device in ("meta", "cpu"):
        with torch.device(device):
            model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

        def half(model: nn.Sequential = model) -> nn.Module:
            model[0].reset_parameters()
            return model

        with pytest.raises(ic.PlanError) as caught:
            ict.record(half, device=device).plan()
        names = [violation.tensor for violation in caught.value.violations]
        assert names == ["1.weight", "1.bias"]
        assert "before the recording began" in str(caught.value)


def test_methods_of_a_model_are_recorded_for_that_model() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2, bias=False)

        def init_weights(self) -> None:
            nn.init.normal_(self.inner.weight, std=0.5)

    def reset(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    with torch.device("meta"):
        model = Own()
    recording = ict.record(model.init_weights)
    assert recording.model is model
    assert recording.plan().tensors["inner.weight"].std == 0.5
    assert ict.record(model.apply, reset).plan().tensors["inner.weight"].scheme == "uniform"


@CPU_AND_META
def test_parameters_that_share_memory_share_their_draw(device: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = nn.Linear(3, 3, bias=False)
            self.three = nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight
            self.three.weight = nn.Parameter(self.one.weight.data)

    tensors = ict.record(Tied, device=device).plan().tensors
    assert tensors["two.weight"].stream == tensors["three.weight"].stream == "one.weight"


def test_parts_of_one_draw_in_two_parameters_are_apart_and_overlaps_are_refused() -> None:
    class Parts(nn.Module):
        def __init__(self, first: slice, second: slice, scale: float = 1.0) -> None:
            super().__init__()
            drawn = torch.randn(8, 4)
            self.one = nn.Parameter(drawn[first].clone())
            self.two = nn.Parameter(drawn[second] * scale)

    tensors = ict.record(Parts, slice(0, 4), slice(4, 8)).plan().tensors
    assert tensors["one"].stream is tensors["two"].stream is None
    with pytest.raises(ic.PlanError, match=r"'two'.*holds draws of one too"):
        ict.record(Parts, slice(0, 4), slice(3, 7)).plan()
    with pytest.raises(ic.PlanError, match=r"'two'.*holds draws of one too"):
        ict.record(Parts, slice(0, 8), slice(0, 8), -1.0).plan()


def test_rules_come_before_what_was_recorded() -> None:
    recording = ict.record(Holder, lambda: torch.empty(4))
    plan = recording.plan(seed=2, rules=[ict.rule("weight", ic.normal, std=0.5)])
    assert plan.tensors["weight"] == ic.normal((4,), std=0.5)
    assert ict.plan(recording, [ict.rule("weight", ic.ones)]).tensors["weight"].scheme == "ones"


class Counted(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(float(count)).log1p())
        self.register_buffer("mask", torch.arange(count))


def test_computed_values_are_numbers_in_the_plan() -> None:
    plan = ict.record(Counted, 1000).plan()
    values = ic.fetch(plan, target="local")
    model = Counted(1000)
    assert (values["weight"] == model.weight.detach().numpy()).all()
    assert (values["mask"] == model.mask.numpy()).all()
    rows = ict.record(Holder, lambda: torch.arange(1, 5).float().log().repeat(3, 1)).plan()
    assert rows.tensors["weight"].scheme == "broadcast_to"
    wanted = np.log(np.arange(1, 5, dtype=np.float32))
    assert ic.fetch(rows, target="local")["weight"].tolist() == [wanted.tolist()] * 3


def test_large_computed_tensors_of_a_few_values_are_parts_of_constants() -> None:
    def blocks() -> torch.Tensor:
        made = torch.zeros(300, 300)
        made[:100, :200] = 1.5
        made[200:, 100:] = -2.0
        return made

    plan = ict.record(Holder, blocks).plan()
    assert plan.tensors["weight"].scheme == "concatenate"
    assert (ic.fetch(plan, target="local")["weight"] == blocks().numpy()).all()


def test_computed_values_are_handed_to_init_() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.arange(70_000.0).log1p())
            self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
            self.register_buffer("places", torch.arange(4), persistent=False)

    recording = ict.record(Computed)
    with pytest.raises(ic.PlanError, match=r"70,000 numbers; a plan .* values=recording\.values"):
        recording.plan()
    with pytest.warns(ic.PlanWarning, match="buffer mask"):
        plan = recording.plan(rules=[ict.rule("weight", ict.given)])
    model = recording.model
    ict.init_(model, plan, device="cpu", values=recording.values)
    assert torch.equal(model.weight, Computed().weight)
    assert torch.equal(model.mask, Computed().mask)
    assert torch.equal(model.places, torch.arange(4))


def test_a_function_that_makes_no_model_is_refused() -> None:
    assert "returned NoneType; let it return the model" in recording_error(lambda: None)


def test_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="device is 'cuda'; give 'meta' or 'cpu'"):
        ict.record(nn.Linear, 2, 2, device="cuda")


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(KeyError, match="did you mean 'weight'"):
        ict.record(nn.Linear, 2, 2).explain("wieght")


@pytest.mark.parametrize(
    "change",
    [
        lambda w: torch.div(w * 8, 2, rounding_mode="floor"),
        lambda w: w.index_put((torch.tensor([0, 0]),), torch.ones(2, 4), accumulate=True),
    ],
    ids=["rounded division", "accumulated"],
)
def test_operations_that_look_like_others_are_no_law(change: Any) -> None:
    assert "the recording found" in refusal(lambda: change(torch.randn(3, 4)))


def written(write: Callable[[torch.Tensor], Any]) -> Callable[[], torch.Tensor]:
    """Makes four normal draws, and writes to them."""

    def make() -> torch.Tensor:
        drawn = torch.randn(4)
        with torch.no_grad():
            made = write(drawn)
        return made if isinstance(made, torch.Tensor) else drawn

    return make


AT_ONE = torch.tensor([1])
IS_ONE = torch.tensor([False, True, False, False])


@CPU_AND_META
@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.scatter_(0, AT_ONE, 3),
        lambda x: x.masked_fill_(IS_ONE, torch.tensor(3)),
        lambda x: x.masked_fill_(IS_ONE, 3),
        lambda x: x.index_fill_(0, AT_ONE, 3),
        lambda x: torch.where(IS_ONE, torch.full((4,), 3), x),
        lambda x: torch.where(IS_ONE, 3, x),
        lambda x: torch.cat([x[:1], torch.tensor([3]), x[2:]]),
    ],
)
def test_whole_numbers_beside_draws_are_numbers(
    write: Callable[[torch.Tensor], Any], device: str
) -> None:
    """The numbers of elements, by which the recording follows them, are whole numbers too."""
    plan = ict.record(Holder, written(write), device=device).plan(seed=3)
    values = ic.fetch(plan)["weight"]
    assert values[1] == 3
    assert len(set(values.tolist())) == 4
    assert abs(values[[0, 2, 3]]).max() < 6


@CPU_AND_META
@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.index_put_((AT_ONE,), torch.ones(1), accumulate=True),
        lambda x: torch.ones(4).index_put_((AT_ONE,), x[:1], accumulate=True),
        lambda x: x.scatter_(0, AT_ONE, 2.0, reduce="multiply"),
        lambda x: x.scatter_(0, AT_ONE, torch.ones(1), reduce="add"),
        lambda x: torch.div(x, 2, rounding_mode="floor"),
        lambda x: torch.div(x, torch.arange(1.0, 5.0), rounding_mode="trunc"),
        lambda x: torch.div(2, x, rounding_mode="floor"),
    ],
)
@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
def test_variants_of_an_operation_are_not_taken_for_the_plain_one(
    write: Callable[[torch.Tensor], Any], device: str
) -> None:
    """What accumulates or rounds has another law than what writes or divides."""
    assert "give it a rule" in refusal(written(write), device)


@CPU_AND_META
@pytest.mark.parametrize(
    ("limits", "a", "b"),
    [({}, -1, 1), ({"max_val": 0.5}, -1, 0.5), ({"min_val": -2.0, "max_val": 1.0}, -2, 1)],
)
def test_limits_that_torch_has_by_default_count(
    limits: dict[str, float], a: float, b: float, device: str
) -> None:
    """torch does not hand on arguments that equal their defaults."""
    make = written(lambda x: nn.functional.hardtanh(x, **limits))
    found = ict.record(Holder, make, device=device).plan().tensors["weight"]
    assert (found.function, found.a, found.b) == ("clamp", a, b)


def twice(between: Callable[[torch.Tensor], Any]) -> nn.Module:
    """Two layers, and a call with the generator's state before the first one in between."""
    state = torch.get_rng_state()
    first = nn.Linear(2, 2)
    between(state)
    return nn.Sequential(first, nn.Linear(2, 3))


def seeded_twice() -> nn.Module:
    """Two layers with one seed, which leave the generator as it was."""
    layers = []
    for size in (2, 3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers.append(nn.Linear(2, size))
    return nn.Sequential(*layers)


def test_draws_that_torch_repeats_are_noted() -> None:
    """Layers of one seed have the same numbers in torch, and other ones in the plan."""
    rewound = " ".join(ict.record(twice, torch.set_rng_state).notes)
    assert "repeats numbers of an earlier draw" in rewound
    assert "test_recording_traps.py:" in rewound
    forked = " ".join(ict.record(seeded_twice).notes)
    assert "seeds torch's generator" in forked
    assert "repeats numbers of an earlier draw" in forked
    assert ict.record(twice, lambda state: None).notes == ()
    assert ict.record(twice, lambda state: torch.rand(3)).notes == ()
    assert ict.record(twice, lambda state: None, device="cpu").notes == ()
    seeded = ict.record(twice, lambda state: torch.manual_seed(5)).notes
    assert seeded == ("the code seeds torch's generator; the plan's own seed decides instead",)


def test_a_loop_of_many_steps_is_refused_by_name() -> None:
    """A chain of a thousand operations is no error of Python's stack."""

    def steps(x: torch.Tensor) -> None:
        for _ in range(1000):
            x.mul_(0.999).add_(0.001)

    assert "2000 operations made it" in refusal(written(steps))


def test_complex_constants_and_numbers_that_no_plan_holds_are_named() -> None:
    """Each refusal names its tensor."""
    assert "complex" in refusal(lambda: torch.zeros(2, dtype=torch.complex64))

    class Numbers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2) * float("nan"))
            self.register_buffer("count", torch.tensor([2**60 + 1]))

    with pytest.raises(ic.PlanError) as caught:
        ict.record(Numbers).plan()
    assert {one.tensor for one in caught.value.violations} == {"weight", "count"}
