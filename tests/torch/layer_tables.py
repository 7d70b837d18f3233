"""The classes of torch.nn by what they hold, and the warning of each rule for their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import initclient as ic
import torch
from torch import nn

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

# The base of RNN, LSTM and GRU; its subclasses add nothing but their gates. RNNCellBase has no
# default of its own class's, since it is not made by itself.
BASES = ("RNNBase", "RNNCellBase")
