"""What a layer knows about its weight is in the default plan, or a warning says what ignores it.

The tables go through all of torch.nn: a class that they lack fails the first test.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

Case = tuple[str, Any, dict[str, Any], str]
"""A parameter, a builder, its arguments, and words of the one warning; "" for none."""

FAN_IN: dict[str, Any] = {"mode": "fan_in"}
FAN_OUT: dict[str, Any] = {"mode": "fan_out"}
TORCH: dict[str, Any] = {"layout": "torch"}
JAX: dict[str, Any] = {"layout": "jax"}

# Layers whose shape, in torch's layout, says everything.
PLAIN: list[Case] = [
    ("weight", ic.kaiming_normal, FAN_IN, ""),
    ("weight", ic.kaiming_normal, FAN_OUT, ""),
    ("weight", ic.xavier_normal, {}, ""),
    ("weight", ic.orthogonal, {}, ""),
    ("weight", ic.normal, {"std": 0.02}, ""),
    ("weight", ic.kaiming_normal, JAX, "layout='jax' means axes [*kernel, in, out]"),
    ("weight", ic.zeros, {}, ""),
]
GROUPED: list[Case] = [
    ("weight", ic.kaiming_normal, FAN_IN, ""),
    ("weight", ic.kaiming_normal, FAN_OUT, "fan out counts all 24 outputs, and the layer has 4"),
    ("weight", ic.kaiming_normal, FAN_OUT | TORCH, ""),
    ("weight", ic.xavier_uniform, {}, "each with 6 of them, so that weights come out smaller"),
    ("weight", ic.variance_scaling, {"mode": "fan_avg"}, "take ic.normal with the std"),
    ("weight", ic.dirac, {}, "since the layer has 4 groups: give groups=4"),
    ("weight", ic.dirac, {"groups": 4}, ""),
]
NARROW: list[Case] = [
    *GROUPED,
    ("weight", ic.orthogonal, {}, "orthogonal is so for the rows of all 4 groups together"),
]
WIDE: list[Case] = [*GROUPED, ("weight", ic.orthogonal, {}, "")]
TRANSPOSED: list[Case] = [
    ("weight", ic.kaiming_normal, {}, "[in, out, *kernel], so that fan in counts its outputs"),
    ("weight", ic.kaiming_normal, TORCH, ""),
    ("weight", ic.kaiming_normal, FAN_OUT, ""),
    ("weight", ic.lecun_normal, {}, "ic.variance_scaling with mode='fan_out'"),
    ("weight", ic.xavier_normal, {}, ""),
    ("weight", ic.orthogonal, {}, ""),
    ("weight", ic.delta_orthogonal, {}, "delta_orthogonal takes the first for the outputs"),
    ("weight", ic.normal, {}, ""),
]
ROWS: list[Case] = [
    ("weight", ic.kaiming_normal, {}, ""),
    ("weight", ic.lecun_normal, {}, ""),
    ("weight", ic.xavier_uniform, {}, "fan out counts all 60 rows, and a lookup reads one"),
    ("weight", ic.normal, {"std": 0.1}, ""),
    ("weight", ic.normal, {}, ""),  # as torch does
    ("weight", ic.normal, {"std": 2}, "norm of about 8, and each lookup cuts them to the layer's"),
]
NORM: list[Case] = [
    ("weight", ic.ones, {}, ""),
    ("bias", ic.zeros, {}, ""),
]


def recurrent(weight: str, bias: str, *gates: str) -> list[Case]:
    words = f"its rows are {len(gates)} matrices ({', '.join(gates)})" if gates else ""
    return [
        (weight, ic.kaiming_normal, {}, ""),
        (weight, ic.xavier_uniform, {}, words),
        (weight, ic.orthogonal, {}, words),
        (weight, ic.identity, {}, words),
        (weight, ic.uniform, {"a": -0.1, "b": 0.1}, ""),
        (bias, ic.zeros, {}, ""),
        (bias, ic.uniform, {"a": -0.1, "b": 0.1}, ""),
        (bias, ic.ones, {}, f"the biases of {len(gates)} gates" if gates else ""),
    ]


LSTM, GRU = ("input", "forget", "cell", "output"), ("reset", "update", "new")
SEQUENCE, CELL = ("weight_hh_l0", "bias_ih_l0"), ("weight_hh", "bias_hh")
QKV = "its rows are 3 matrices (query, key, value)"
ATTENTION: list[Case] = [
    ("in_proj_weight", ic.xavier_uniform, {}, ""),  # as torch does
    ("in_proj_weight", ic.xavier_uniform, {"gain": 0.5}, QKV),
    ("in_proj_weight", ic.xavier_normal, {}, QKV),
    ("in_proj_weight", ic.kaiming_normal, {}, ""),
    ("in_proj_weight", ic.orthogonal, {}, QKV),
    ("in_proj_bias", ic.zeros, {}, ""),
    ("bias_k", ic.xavier_normal, {}, ""),
    ("bias_k", ic.kaiming_normal, {}, "a vector that attention adds to its keys or values"),
    ("bias_v", ic.normal, {"std": 0.1}, ""),
    ("out_proj.weight", ic.xavier_uniform, {}, ""),
]


def within(prefix: str, cases: list[Case]) -> list[Case]:
    return [(f"{prefix}.{name}", *rest) for name, *rest in cases]  # type: ignore[misc]


NO_KEYS = [case for case in ATTENTION if case[0] not in ("bias_k", "bias_v")]
LOSS: list[Case] = [("weight", ic.ones, {}, "")]

STATE: dict[str, tuple[Callable[[], nn.Module], list[Case]]] = {
    "Linear": (lambda: nn.Linear(16, 8), PLAIN),
    "Conv1d": (lambda: nn.Conv1d(16, 24, 3), PLAIN),
    "Conv2d": (lambda: nn.Conv2d(16, 24, 3, groups=4), WIDE),
    "Conv3d": (lambda: nn.Conv3d(16, 24, 1, groups=4), NARROW),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(16, 8, 3), TRANSPOSED),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(16, 8, 3), TRANSPOSED),
    "ConvTranspose3d": (
        lambda: nn.ConvTranspose3d(8, 16, 3, groups=2),
        [
            ("weight", ic.kaiming_normal, TORCH, ""),
            (
                "weight",
                ic.kaiming_normal,
                FAN_OUT,
                "fan out counts all 8 inputs, and the layer has",
            ),
            ("weight", ic.dirac, {"groups": 2}, ""),
            ("weight", ic.dirac, {}, "give groups=2"),
        ],
    ),
    "Bilinear": (
        lambda: nn.Bilinear(8, 6, 4),
        [
            ("weight", ic.kaiming_normal, {}, ""),
            ("weight", ic.xavier_normal, {}, "axes are [out, in1, in2], and fan out counts in2"),
            ("weight", ic.dirac, {}, "dirac takes the last for a kernel"),
            ("weight", ic.orthogonal, {}, ""),
        ],
    ),
    "Embedding": (lambda: nn.Embedding(60, 16, padding_idx=3, max_norm=2), ROWS),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(60, 16, max_norm=2), ROWS),
    "RNN": (lambda: nn.RNN(8, 8), recurrent(*SEQUENCE)),
    "RNNBase": (lambda: nn.RNNBase("LSTM", 8, 8), []),
    "RNNCellBase": (lambda: nn.RNNCellBase(8, 8, True, 4), []),
    "LSTM": (
        lambda: nn.LSTM(8, 8, proj_size=4, bidirectional=True),
        [*recurrent(*SEQUENCE, *LSTM), ("weight_hr_l0", ic.orthogonal, {}, "")],
    ),
    "GRU": (lambda: nn.GRU(8, 8), recurrent(*SEQUENCE, *GRU)),
    "RNNCell": (lambda: nn.RNNCell(8, 8), recurrent(*CELL)),
    "LSTMCell": (lambda: nn.LSTMCell(8, 8), recurrent(*CELL, *LSTM)),
    "GRUCell": (lambda: nn.GRUCell(8, 8), recurrent(*CELL, *GRU)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), ATTENTION),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 8),
        within("self_attn", NO_KEYS),
    ),
    "TransformerDecoderLayer": (
        lambda: nn.TransformerDecoderLayer(8, 2, 8),
        within("multihead_attn", NO_KEYS),
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2),
        within("layers.1.self_attn", NO_KEYS),
    ),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 8), 2),
        within("layers.1.self_attn", NO_KEYS),
    ),
    "Transformer": (
        lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True),
        within("encoder.layers.0.self_attn", NO_KEYS),
    ),
    "PReLU": (
        lambda: nn.PReLU(4, init=0.1),
        [("weight", ic.constant, {"val": 0.3}, ""), ("weight", ic.normal, {}, "")],
    ),
    "LayerNorm": (lambda: nn.LayerNorm(8), NORM),
    "RMSNorm": (lambda: nn.RMSNorm(8), NORM[:1]),
    "GroupNorm": (lambda: nn.GroupNorm(2, 8), NORM),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [8]),
        within("head", PLAIN),
    ),
    "LinearCrossEntropyLoss": (
        lambda: nn.LinearCrossEntropyLoss(8, 4),
        within("linear", PLAIN),
    ),
    "BCELoss": (lambda: nn.BCELoss(torch.rand(4)), LOSS),
    "BCEWithLogitsLoss": (lambda: nn.BCEWithLogitsLoss(torch.rand(4)), LOSS),
    "CrossEntropyLoss": (lambda: nn.CrossEntropyLoss(torch.rand(4)), LOSS),
    "MultiLabelSoftMarginLoss": (lambda: nn.MultiLabelSoftMarginLoss(torch.rand(4)), LOSS),
    "MultiMarginLoss": (lambda: nn.MultiMarginLoss(weight=torch.rand(4)), LOSS),
    "NLLLoss": (lambda: nn.NLLLoss(torch.rand(4)), LOSS),
    "NLLLoss2d": (lambda: nn.NLLLoss2d(torch.rand(4)), LOSS),
}
for _kind in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"):
    STATE[_kind] = (lambda kind=_kind: getattr(nn, kind)(8), NORM)
for _kind in ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"):
    STATE[_kind] = (lambda kind=_kind: getattr(nn, kind)(8, affine=True), NORM)
STATE = {kind: case for kind, case in STATE.items() if hasattr(nn, kind)}

# Without sizes, so without a shape; they are refused by name until they have one.
LAZY: dict[str, tuple[Any, ...]] = {
    "LazyLinear": (4,),
    **{f"LazyConv{n}d": (4, 3) for n in (1, 2, 3)},
    **{f"LazyConvTranspose{n}d": (4, 3) for n in (1, 2, 3)},
    **{f"LazyBatchNorm{n}d": () for n in (1, 2, 3)},
    **{f"LazyInstanceNorm{n}d": (1e-5, 0.1, True) for n in (1, 2, 3)},
}

# Hold other modules or parameters, and know nothing of them.
CONTAINERS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("Container", "ModuleDict", "ModuleList", "Module", "Sequential"), ()),
    **dict.fromkeys(("ParameterDict", "ParameterList"), ()),
    "DataParallel": (nn.Identity(),),
}

# Constructor arguments of what has neither parameters nor buffers, where it wants some.
STATELESS: dict[str, tuple[Any, ...]] = {
    **{f"AdaptiveAvgPool{n}d": (1,) for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": (1,) for n in (1, 2, 3)},
    **{f"AvgPool{n}d": (1,) for n in (1, 2, 3)},
    **{f"LPPool{n}d": (2, 1) for n in (1, 2, 3)},
    **{f"MaxPool{n}d": (1,) for n in (1, 2, 3)},
    **{f"MaxUnpool{n}d": (1,) for n in (1, 2, 3)},
    **{f"{kind}Pad{n}d": (1,) for n in (1, 2, 3) for kind in ("Circular", "Reflection", "Zero")},
    **{f"ReplicationPad{n}d": (1,) for n in (1, 2, 3)},
    **{f"ConstantPad{n}d": (1, 0) for n in (1, 2, 3)},
    **{f"FractionalMaxPool{n}d": (1, 1) for n in (2, 3)},
    **{f"Dropout{n}d": () for n in (1, 2, 3)},
    **dict.fromkeys(("AlphaDropout", "Dropout", "FeatureAlphaDropout"), ()),
    **dict.fromkeys(("CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish"), ()),
    **dict.fromkeys(("Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "RReLU"), ()),
    **dict.fromkeys(("ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax", "Softmax2d"), ()),
    **dict.fromkeys(("Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"), ()),
    **dict.fromkeys(("CTCLoss", "CosineEmbeddingLoss", "GaussianNLLLoss", "HuberLoss"), ()),
    **dict.fromkeys(("HingeEmbeddingLoss", "KLDivLoss", "L1Loss", "MSELoss"), ()),
    **dict.fromkeys(("MarginRankingLoss", "MultiLabelMarginLoss", "PoissonNLLLoss"), ()),
    **dict.fromkeys(("SmoothL1Loss", "SoftMarginLoss", "TripletMarginLoss"), ()),
    "TripletMarginWithDistanceLoss": (),
    **dict.fromkeys(("CosineSimilarity", "PairwiseDistance", "Flatten", "Identity"), ()),
    **dict.fromkeys(("Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"), ()),
    **dict.fromkeys(("ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "Unfold"), (1,)),
    **dict.fromkeys(("CrossMapLRN2d", "LocalResponseNorm"), (1,)),
    "Fold": (1, 1),
    "Threshold": (0.1, 0),
    "Unflatten": (0, (1,)),
}

pytestmark = [
    # torch's own, of LazyModule, of NLLLoss2d, and of Transformer's nested tensors.
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
    pytest.mark.filterwarnings("ignore:.NLLLoss2d. has been deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.spectral_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:nn.Container is deprecated:FutureWarning"),
]

# The base of RNN, LSTM and GRU; its subclasses add nothing but their gates. RNNCellBase has no
# default of its own class's, since it is not made by itself.
BASES = ("RNNBase", "RNNCellBase")


def warned(model: nn.Module, *rules: ict.Rule, **rest: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ict.plan(model, rules, **rest)
    return [str(one.message) for one in caught]


def test_every_class_of_torch_nn_is_considered() -> None:
    known = {
        name
        for name, kind in vars(nn).items()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
    }
    tables = [set(STATE), set(LAZY), set(CONTAINERS), set(STATELESS)]
    assert known - set().union(*tables) == set()
    assert sum(map(len, tables)) == len(set().union(*tables))


@pytest.mark.parametrize("kind", [kind for kind in STATELESS if hasattr(nn, kind)])
def test_what_counts_as_stateless_is(kind: str) -> None:
    module = getattr(nn, kind)(*STATELESS[kind])
    assert not list(module.parameters())
    assert not list(module.buffers())


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_layers_are_refused_until_they_have_a_shape(kind: str) -> None:
    with pytest.raises(ic.PlanError, match=f"of a lazy module, {kind}, has no shape yet"):
        ict.plan(getattr(nn, kind)(*LAZY[kind]))


@pytest.mark.parametrize("kind", STATE)
def test_torchs_own_draws_are_no_warning(kind: str) -> None:
    texts = warned(STATE[kind][0]())
    buffers = ["no rule has the values of buffer weight, so the plan leaves them out; init_ calls "]
    buffers[0] += "the modules to compute them, if they can"
    assert texts == (buffers if kind.endswith(("Loss", "Loss2d")) and texts else [])


CASES = [
    pytest.param(kind, *case, id=f"{kind}-{case[0]}-{case[1].__name__}-{number}")
    for kind, (_, cases) in STATE.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("kind", "name", "builder", "arguments", "words"), CASES)
def test_a_rule_that_ignores_what_the_layer_knows_is_one_warning(
    kind: str, name: str, builder: Any, arguments: dict[str, Any], words: str
) -> None:
    module = STATE[kind][0]()
    rule = ict.rule(name, builder, **arguments)
    texts = [text for text in warned(module, rule) if "leaves them out" not in text]
    if words:
        (text,) = texts
        assert text.startswith(f"{name}: ")
        assert words in text
    else:
        assert texts == []


def test_every_class_with_a_weight_has_cases() -> None:
    assert {kind for kind, (_, cases) in STATE.items() if not cases} == set(BASES)


def test_one_warning_names_all_parameters_that_it_is_about() -> None:
    model = nn.Sequential(*(nn.ConvTranspose2d(8, 8, 3) for _ in range(5)))
    (text,) = warned(model, ict.rule("*.weight", ic.kaiming_normal))
    assert text.startswith("0.weight, 1.weight, 2.weight and 2 more: a transposed convolution")


def test_fan_out_is_a_warning_on_transposed_layers_only_with_others() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(8, 8, 3))
    (text,) = warned(model, ict.rule("*.weight", ic.kaiming_normal, mode="fan_out"))
    assert text.startswith("1.weight: ")
    assert "fan out counts its inputs; mode='fan_in' counts its outputs" in text
    rules = [ict.rule(nn.ConvTranspose2d, ic.kaiming_normal, parameter="weight", mode="fan_out")]
    assert warned(model, *rules) == []


def test_the_std_that_the_remedy_names_is_that_of_the_inputs() -> None:
    module = nn.ConvTranspose2d(16, 8, 3)
    plan = ict.plan(module, [ict.rule("weight", ic.kaiming_normal, mode="fan_out", a=1)])
    inputs = module.in_channels * 9
    assert ic.describe(plan, target="local").tensors[0].std == pytest.approx(inputs**-0.5)


def test_a_matrix_for_each_gate_is_no_warning() -> None:
    def gates(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        one = ic.orthogonal((shape[0] // 4, shape[1]), dtype=dtype)
        return ic.concatenate(dict.fromkeys(LSTM, one))

    def forget(shape: tuple[int, ...], dtype: Any = None) -> ic.Tensor:
        size = shape[0] // 4
        ones = {"forget": ic.ones((size,), dtype=dtype)}
        rest = dict.fromkeys(LSTM, ic.zeros((size,), dtype=dtype))
        return ic.concatenate(rest | ones)

    rules = [ict.rule("weight_hh*", gates), ict.rule("bias_hh*", forget)]
    module = nn.LSTM(8, 8)
    with pytest.warns(ic.PlanWarning, match="stream"):
        plan = ict.plan(module, [*rules, ict.rule("bias_ih*", ic.zeros)])
    ict.init_(module, plan, "local")
    for block in module.weight_hh_l0.detach().split(8):
        assert torch.allclose(block @ block.T, torch.eye(8), atol=1e-5)
    assert module.bias_hh_l0.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def test_slopes_and_class_weights_under_a_rule_for_other_layers_are_a_warning() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU())
    (text,) = warned(model, ict.rule("*.weight", ic.normal))
    assert "1.weight: are slopes of PReLU, which the module starts at 0.25" in text
    assert warned(model, ict.rule(nn.PReLU, ic.normal), ict.rule("*.weight", ic.normal)) == []
    model = nn.Sequential(nn.Linear(4, 4), nn.CrossEntropyLoss(torch.rand(4)))
    (text,) = warned(model, ict.rule("*.weight", ic.ones))
    assert "1.weight: a buffer of CrossEntropyLoss" in text
    assert "ict.rule('1.weight', ict.keep) before that rule" in text
    before = model[1].weight.clone()
    rules = [ict.rule("1.weight", ict.keep), ict.rule("*.weight", ic.normal)]
    assert warned(model, *rules) == []
    ict.init_(model, ict.plan(model, rules), "local")
    assert torch.equal(model[1].weight, before)


COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "WeightNorm": parametrizations.weight_norm,
    "SpectralNorm": parametrizations.spectral_norm,
    "Orthogonal": parametrizations.orthogonal,
    "RandomUnstructured": lambda module: prune.random_unstructured(module, "weight", 0.5),
    "old WeightNorm": torch.nn.utils.weight_norm,
    "old SpectralNorm": torch.nn.utils.spectral_norm,
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_weight_that_is_computed_from_the_draw_is_a_warning(kind: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), COMPUTED[kind](nn.Linear(8, 8)))
    bias = ict.rule("*bias", ic.zeros)
    texts = [t for t in warned(model, bias, ict.rule("*", ic.normal)) if "leaves them" not in t]
    (text,) = texts
    assert f"is computed from it by {kind.removeprefix('old ')}" in text
    rules = [ict.rule("1.*", ic.normal), ict.rule("0.weight", ic.normal)]
    texts = [t for t in warned(model, bias, *rules) if "leaves them" not in t]
    assert texts == []
    with pytest.raises(ic.PlanError, match="no rule covers this parameter"):
        ict.plan(model, [bias])


def test_transformers_conv1d_has_jax_axes() -> None:
    from transformers.pytorch_utils import Conv1D

    model = Conv1D(24, 8)
    bias = ict.rule("bias", ic.zeros)
    (text,) = warned(model, bias, ict.rule("weight", ic.kaiming_normal))
    assert "axes of transformers' Conv1D are [in, out]" in text
    for arguments in (JAX, TORCH):
        assert warned(model, bias, ict.rule("weight", ic.kaiming_normal, **arguments)) == []
    plan = ict.plan(model, [bias, ict.rule("weight", ic.lecun_normal, layout="jax")])
    assert ic.describe(plan, target="local").tensors[0].fan_in == 8


def test_recipes_are_held_to_it_too() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(8, 8, 3))
    (text,) = warned(model, recipe="he")
    assert "fan in counts its outputs" in text
    assert warned(model, recipe="xavier") == []
    assert warned(model, recipe="torch") == []


def test_a_tied_weight_has_the_default_of_its_first_place_without_a_warning() -> None:
    model = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16, bias=False))
    model[1].weight = model[0].weight
    assert warned(model) == []
    plan = ict.plan(model)
    assert [tensor.scheme for tensor in plan.tensors.values()] == ["normal", "normal"]
