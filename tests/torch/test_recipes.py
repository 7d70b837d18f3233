"""A recipe draws what its source draws, where the source runs here: torch and transformers.

The plan of a recording has the values of the recipes that repeat a library, to the bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import initclient as ic
import initclient.torch as ict
import pytest
import scipy.linalg
import torch
import transformers
from initclient import recipes
from torch import nn

from tests.torch.draws import DEPRECATED, recorded, resolved, same_distribution
from tests.torch.test_module_defaults import MODULES
from tests.torch.test_transformers import SIZES, TOKENS, bert, llama, mixtral, vit

pytestmark = DEPRECATED


def gpt2() -> nn.Module:
    sizes = {"n_layer": 3, "n_embd": 64, "n_head": 2, "n_positions": 32, "vocab_size": 200}
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends))


def qwen2() -> nn.Module:
    """Like Llama, with biases."""
    config = transformers.Qwen2Config(num_key_value_heads=2, **SIZES, **TOKENS)
    return transformers.Qwen2ForCausalLM(config)


def masked_vit() -> nn.Module:
    config = transformers.ViTConfig(image_size=32, patch_size=8, encoder_stride=8, **SIZES)
    return transformers.ViTForMaskedImageModeling(config)


# Their layers are copies, which share draws in a recording, or no draw decides them.
COPIES = {"Transformer", "PReLU"}

SOURCES: list[tuple[str, Callable[[], nn.Module]]] = [
    ("gpt2", gpt2),
    ("bert", bert),
    ("llama_transformers", llama),
    ("llama_transformers", mixtral),
    ("llama_transformers", qwen2),
    ("vit_transformers", vit),
    ("vit_transformers", masked_vit),
]


@pytest.mark.parametrize(
    ("recipe", "build"), [pytest.param(*source, id=source[1].__name__) for source in SOURCES]
)
def test_a_recipe_draws_what_transformers_draws(
    recipe: str, build: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(1)
    theirs, draws = recorded(build)
    with torch.device("meta"):
        ours = build()
    plan = ict.plan(ours, recipe=recipe, seed=3)
    ict.init_(ours, plan)
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, values in ours.state_dict().items():
        assert same_distribution(values, expected[name]), name
    # And to the bit of the double, where the source passes one.
    normals = {name: draw[1:] for name, draw in draws.items() if draw[0] == "normal_"}
    assert len(normals) >= 8
    for name, (mean, std) in normals.items():
        assert (mean, std) == (0.0, plan.tensors[name].std), name


@pytest.mark.parametrize(
    ("recipe", "build"), [pytest.param(*source, id=source[1].__name__) for source in SOURCES]
)
def test_a_recording_has_the_values_of_the_recipe_to_the_bit(
    recipe: str, build: Callable[[], nn.Module]
) -> None:
    recording = ict.record(build)
    mine = ic.fetch(recording.plan(seed=3), target="local")
    theirs = ic.fetch(ict.plan(recording.model, recipe=recipe, seed=3), target="local")
    assert theirs.keys() <= mine.keys()
    for name, values in theirs.items():
        assert values.tobytes() == mine[name].tobytes(), name


@pytest.mark.filterwarnings("ignore:.*Initializing zero-element tensors is a no-op")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("name", sorted(MODULES.keys() - COPIES))
def test_a_recording_has_the_values_of_torchs_defaults_to_the_bit(name: str) -> None:
    recording = ict.record(MODULES[name])
    mine = ic.fetch(recording.plan(seed=3), target="local")
    theirs = ic.fetch(ict.plan(recording.model, seed=3), target="local")
    assert theirs.keys() == mine.keys()
    for one, values in theirs.items():
        assert values.tobytes() == mine[one].tobytes(), one


@pytest.mark.filterwarnings("ignore:.*Initializing zero-element tensors is a no-op")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"PReLU", "Linear without inputs"}))
def test_the_recipe_torch_is_what_modules_draw_without_a_recipe(name: str) -> None:
    module = MODULES[name]()
    assert ict.plan(module, recipe="torch") == ict.plan(module)


@pytest.mark.filterwarnings("default:recipe .* repeats what:FutureWarning")
def test_recipes_that_repeat_a_library_name_what_takes_their_place() -> None:
    """Without a model they stay, as do those that are ideas of papers."""
    repeating = {name for name in recipes.names() if recipes.load(name).repeats}
    assert repeating == {
        *("bert", "gpt2", "llama", "llama_transformers", "megatron", "vit", "vit_transformers"),
    }
    with pytest.warns(
        FutureWarning, match=r"write ict\.record\(GPT2LMHeadModel, config\)"
    ) as found:
        ict.plan(gpt2(), recipe="gpt2")
    (warning,) = found
    assert warning.filename == __file__
    assert "without a model, from names and shapes, it stays" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipes.plan([("h.0.c_proj.weight", (4, 4), "F32")], "gpt2")
        for name in ("xavier", "he", "zero", "torch"):
            ict.plan(nn.Linear(2, 2), recipe=name)


@pytest.mark.filterwarnings("default:recipe .* repeats what:FutureWarning")
def test_a_recipe_of_ones_own_repeats_nothing_without_the_line(tmp_path: Path) -> None:
    text = recipes.load("gpt2").text
    own = tmp_path / "own.yaml"
    own.write_text("".join(line for line in text.splitlines(True) if "repeats:" not in line))
    plan = ict.plan(gpt2(), recipe=own)
    with pytest.warns(FutureWarning, match="recipe gpt2 repeats what transformers draws"):
        assert plan == ict.plan(gpt2(), recipe="gpt2")


class ConvNet(nn.Module):
    """The kinds of layers of a convolutional network, a grouped convolution among them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 48, 3, groups=4)
        self.fc = nn.Linear(48, 40)


def torchvision_resnet(module: nn.Module) -> None:
    """torchvision/models/resnet.py, the end of ResNet.__init__."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.constant_(module.weight, 1)
        nn.init.constant_(module.bias, 0)


def lua_torch(module: nn.Module) -> None:
    """ConvInit and BNInit of facebookresearch/ResNeXt, models/resnext.lua, and of
    liuzhuang13/DenseNet, models/densenet.lua."""
    if isinstance(module, nn.Conv2d):
        n = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, 0, math.sqrt(2 / n))
    if isinstance(module, nn.BatchNorm2d):
        nn.init.constant_(module.weight, 1)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)


def zagoruyko(module: nn.Module) -> None:
    """conv_params, linear_params and bnparams of szagoruyko/wide-residual-networks,
    pytorch/utils.py."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.uniform_(module.weight, 0, 1)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)


def glorot(module: nn.Module) -> None:
    """Glorot and Bengio 2010, equation 16."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def he(module: nn.Module) -> None:
    """He et al. 2015, equation 10, with the bias of CS231n's notes."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.constant_(module.bias, 0.01)


CONVOLUTIONAL = {
    "resnet": torchvision_resnet,
    "resnext": lua_torch,
    "densenet": lua_torch,
    "wide_resnet": zagoruyko,
    "xavier": glorot,
    "he": he,
}


@pytest.mark.parametrize("recipe", CONVOLUTIONAL)
def test_a_recipe_for_convolutions_passes_the_doubles_of_its_source(recipe: str) -> None:
    torch.manual_seed(1)
    theirs, draws = recorded(lambda: ConvNet().apply(CONVOLUTIONAL[recipe]))
    plan = ict.plan(theirs, recipe=recipe)
    doubles = resolved(plan)
    constants = {tensor.name: tensor.low for tensor in ic.describe(plan).tensors}
    for name, parameter in theirs.named_parameters():
        first = parameter.flatten()[0]
        if (parameter == first).all():
            assert name not in doubles
            assert torch.tensor(constants[name]) == first, name
        else:
            assert doubles[name] == draws[name], name


@pytest.mark.parametrize(("outputs", "inputs"), [(5, 5), (3, 7), (7, 3), (16, 4), (33, 32)])
def test_zero_has_the_matrices_of_its_authors_code(outputs: int, inputs: int) -> None:
    """ZerO_Init_on_matrix of jiaweizzhao/ZerO-initialization, example_mnist.ipynb."""
    layers = nn.Linear(inputs, outputs), nn.Conv2d(inputs, outputs, 3), nn.LayerNorm(4)
    model = nn.Sequential(*layers)
    ict.init_(model, ict.plan(model, recipe="zero"), target="local")
    if outputs <= inputs:
        want = torch.eye(outputs, inputs)
    else:
        power = math.ceil(math.log2(outputs))
        whole = torch.from_numpy(scipy.linalg.hadamard(2**power)).float() / 2 ** (power / 2)
        want = torch.eye(outputs, 2**power) @ whole @ torch.eye(2**power, inputs)
    assert torch.allclose(model[0].weight, want, rtol=1e-7, atol=0)
    assert torch.equal(model[1].weight[:, :, 1, 1], model[0].weight)
    assert model[1].weight.count_nonzero() == want.count_nonzero()
    assert not model[0].bias.any()
    assert model[2].weight.eq(1).all()


def test_own_rules_come_first_and_torchs_default_last() -> None:
    plan = ict.plan(ConvNet(), [ict.rule("conv1.weight", ic.orthogonal)], recipe="resnet", seed=7)
    kinds = {name: tensor.scheme for name, tensor in plan.tensors.items()}
    assert kinds["conv1.weight"] == "orthogonal"
    assert kinds["conv2.weight"] == "kaiming_normal"
    assert kinds["fc.weight"] == "kaiming_uniform"
    assert kinds["bn1.running_mean"] == "zeros"
    assert plan.seed == 7


def test_a_recipe_of_ones_own_is_a_file_of_the_same_form(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("""\
summary: a wide first layer
source: this test
arguments: {scale: 3}
rules:
  - {regex: 'conv1\\..*', scheme: normal, std: scale / fan_in, note: the first layer}
  - {type: "_ConvNd", within: Conv*, parameter: weight, scheme: ones}
  - {type: [Linear, _ConvNd], when: dimensions >= 2 and not fan_in > 1000, scheme: he_normal}
  - {type: BatchNorm2d, parameter: running_var, scheme: constant, val: 4 ** -0.5}
  - {name: "*", scheme: zeros}
""")
    for recipe in (own, str(own), recipes.load(own)):
        plan = ict.plan(ConvNet(), recipe=recipe, recipe_arguments={"scale": 6})
        assert plan.tensors["conv1.weight"] == ic.normal((16, 3, 7, 7), std=6 / 147)
        assert plan.tensors["conv2.weight"].scheme == "ones"
        assert plan.tensors["fc.weight"] == ic.he_normal((40, 48))
        assert plan.tensors["fc.bias"].scheme == plan.tensors["bn1.weight"].scheme == "zeros"
        assert plan.tensors["bn1.running_var"] == ic.constant((16,), 0.5)
        # Wide rules leave buffers alone.
        assert plan.tensors["bn1.num_batches_tracked"].dtype == "I64"


def test_layers_are_counted_in_the_whole_model_or_given() -> None:
    model = gpt2()
    name = "transformer.h.2.attn.c_proj.weight"
    assert ict.plan(model, recipe="gpt2").tensors[name].std == 0.02 / math.sqrt(6)
    stage = nn.ModuleDict({"h": nn.ModuleDict({"2": model.transformer.h[2]})})
    with pytest.raises(
        ic.PlanError, match=r"h.2.attn.c_proj.weight.* only 2..2 are there; say how"
    ):
        ict.plan(stage, recipe="gpt2")
    plan = ict.plan(stage, recipe="gpt2", recipe_arguments={"layers": 3})
    assert plan.tensors["h.2.attn.c_proj.weight"].std == 0.02 / math.sqrt(6)


def test_a_recipe_for_another_kind_of_model_is_reported() -> None:
    with pytest.warns(ic.PlanWarning, match=r"gpt2: rule 1 \(projections into the residual stream"):
        ict.plan(ConvNet(), [ict.rule("bn*", ic.ones)], recipe="gpt2")
    with pytest.warns(ic.PlanWarning, match="recipe resnet has no effect"):
        ict.plan(nn.Linear(3, 3), recipe="resnet")
    # A rule of one's own that is there for it is no reason to warn.
    with warnings.catch_warnings():
        warnings.simplefilter("error", ic.PlanWarning)
        ict.plan(gpt2(), [ict.rule("*.c_proj.weight", ic.zeros)], recipe="gpt2")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"recipe": "gtp2"}, ic.PlanError, "'gtp2' is not known: did you mean 'gpt2'"),
        ({"recipe": 2}, TypeError, "the recipe is 2; give a name"),
        ({"recipe_arguments": {"std": 1}}, TypeError, "give recipe= too"),
        (
            {"recipe": "he", "recipe_arguments": {"biass": 1}},
            ic.PlanError,
            "recipe he: recipe_arguments: biass: the recipe has no such argument; it takes bias",
        ),
    ],
)
def test_what_is_no_recipe_is_refused(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ict.plan(nn.Linear(3, 3), **arguments)


def test_mup_keeps_one_std_where_one_side_widens() -> None:
    """microsoft/mup, mup/init.py, normal_: over sqrt(width multiplier) where both sides widen."""

    def model(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Embedding(50, width),
            nn.Linear(width, 4 * width),
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, 50),
        )

    plan = ict.plan(model(64), recipe="mup", recipe_arguments={"base_shapes": model(16)})
    stds = {name: plan.tensors[f"{name}.weight"].std for name in "013"}
    assert stds == {"0": 0.02, "1": 0.02 * (64 / 16) ** -0.5, "3": 0.02}
    assert plan.tensors["1.bias"].scheme == "zeros"
    assert plan.tensors["2.weight"].scheme == "ones"
    base = ict.plan(model(16), recipe="mup", recipe_arguments={"base_shapes": model(16)})
    assert base.tensors["1.weight"].std == 0.02
    by_name = {name: value.shape for name, value in model(16).named_parameters()}
    for given in (by_name, base):
        assert plan == ict.plan(model(64), recipe="mup", recipe_arguments={"base_shapes": given})
    with pytest.raises(ic.PlanError, match="base_shapes: is missing; give the model of base width"):
        ict.plan(model(64), recipe="mup")
    with pytest.raises(ic.PlanError, match=r"'0.weight'.*base_shapes has no 0.weight"):
        ict.plan(model(64), recipe="mup", recipe_arguments={"base_shapes": {}})


class Kinds(nn.Module):
    """Every class that the recipes for convolutions name, beside those of ConvNet."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(8, 16, 3)
        self.three = nn.Conv3d(4, 8, 3)
        self.up1 = nn.ConvTranspose1d(8, 12, 3)
        self.up2 = nn.ConvTranspose2d(8, 12, 3)
        self.up3 = nn.ConvTranspose3d(8, 12, 3)
        self.group = nn.GroupNorm(2, 8)
        self.batch1 = nn.BatchNorm1d(8)
        self.batch3 = nn.BatchNorm3d(8)


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
@pytest.mark.parametrize(
    ("recipe", "weight", "bias"),
    [("xavier", "xavier_uniform", ("zeros", None)), ("he", "kaiming_normal", ("constant", 0.01))],
)
def test_recipes_cover_every_kind_of_convolution(recipe, weight, bias) -> None:  # type: ignore
    plan = ict.plan(Kinds(), recipe=recipe)
    for name in ("one", "three", "up1", "up2", "up3"):
        assert plan.tensors[f"{name}.weight"].scheme == weight, name
        found = plan.tensors[f"{name}.bias"]
        assert (found.scheme, found.val) == bias, name


@pytest.mark.filterwarnings("ignore::initclient.PlanWarning")
def test_zero_covers_every_kind_of_convolution() -> None:
    plan = ict.plan(Kinds(), [ict.rule("up*", ic.zeros)], recipe="zero")
    for name in ("one", "three"):
        assert plan.tensors[f"{name}.weight"].scheme == "hadamard"
        assert plan.tensors[f"{name}.bias"].scheme == "zeros"
