"""The public code's networks and checkpoints: the same function, the same names, and there and back."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from public_formula import public_checkpoint, public_logits
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import build_module
from ripu_lightning.networks import DeepLabV2, DeepLabV3Plus
from ripu_lightning.networks.public import from_public, to_public
from ripu_lightning.networks.weights import fill
from test_configs import compose
from tiny import datamodule

# The copy in the tree, and the collection's own where RIPU_GOLDEN names it.
FOLDERS = [Path(__file__).parents[1] / "data" / "golden", *map(Path, filter(None, [os.environ.get("RIPU_GOLDEN")]))]
HEADS = ["v2", "v3plus"]


def network(head: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    built = DeepLabV2(5, "resnet50", **options) if head == "v2" else DeepLabV3Plus(5, "resnet50", 8, 8, **options)
    return built.eval()


def picture(height: int = 65, width: int = 97) -> torch.Tensor:
    return torch.randn((2, 3, height, width), generator=torch.Generator().manual_seed(3))


# --- the same function -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_a_public_checkpoint_is_the_same_function_here(head: str) -> None:
    checkpoint, images = public_checkpoint(head), picture()
    expected = public_logits(checkpoint, images)
    found = []
    for options in ({"batchnorm_eps": 0.0}, {}):
        ours = network(head, **options)
        ours.load_state_dict(from_public(checkpoint))
        with torch.no_grad():
            found.append(F.interpolate(ours(images).logits, (65, 97), mode="bilinear", align_corners=True))
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert (found[1] - expected).abs().mean() > 0.1 * expected.std()


def test_eps_is_each_layers_own_unless_given() -> None:
    def found(**options: object) -> set[float]:
        built = DeepLabV3Plus(5, "efficientnet_lite0", 16, channels=8, **options)
        return {child.eps for child in built.modules() if isinstance(child, nn.BatchNorm2d)}

    assert found() == {1e-3, 1e-5}
    assert found(batchnorm_eps=0.25) == {0.25}
    with pytest.raises(UserError, match=r"batchnorm_eps must be a number >= 0, got -0\.1"):
        found(batchnorm_eps=-0.1)


def test_training_without_eps_needs_frozen_batchnorm() -> None:
    chosen = ["network=deeplab_v3plus", "network.backbone=resnet18", "network.channels=8", "network.weights=null"]
    config = compose(*chosen, "network.batchnorm_eps=0", "batchnorm=frozen")
    module = build_module(config, datamodule()).train()
    module(picture(64, 64)).logits.square().mean().backward()
    assert module.network.head.bottleneck[0].weight.grad.isfinite().all()
    config.batchnorm = "separate"
    with pytest.raises(UserError, match=r"batchnorm_eps .*set batchnorm to frozen"):
        build_module(config, datamodule())


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(("kind", "part"), [(DeepLabV2, "deeplabv2"), (DeepLabV3Plus, "deeplabv3plus")])
def test_names_and_shapes_are_the_public_ones(kind: type[nn.Module], part: str, folder: Path) -> None:
    golden = json.loads((folder / "checkpoint_keys.json").read_text())
    wanted = {"feature_extractor": golden["feature_extractor"], "classifier": golden[f"classifier_{part}"]}
    with torch.device("meta"):
        state = kind(19).state_dict()
        public = {name: {k: torch.empty(s) for k, s in keys.items()} for name, keys in wanted.items()}
    written = to_public(state, 7)
    assert {name: {k: list(v.shape) for k, v in written[name].items()} for name in wanted} == wanted
    assert list(written) == ["iteration", "feature_extractor", "classifier", "optimizer_fea", "optimizer_cls"]
    assert written["iteration"] == 7
    assert {k: v.shape for k, v in from_public(public).items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_there_and_back_is_the_identity(head: str, prefix: str) -> None:
    checkpoint = public_checkpoint(head, "resnet18")
    parts = ("feature_extractor", "classifier")
    wrapped = checkpoint | {part: {prefix + k: v for k, v in checkpoint[part].items()} for part in parts}
    state = from_public(wrapped)
    back = to_public(state, checkpoint["iteration"])
    for part in parts:
        assert back[part].keys() == checkpoint[part].keys()
        assert all(torch.equal(back[part][key], value) for key, value in checkpoint[part].items())
    again = from_public(back)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], value) for key, value in state.items())


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: {"state_dict": {}},
            "unknown entry 'state_dict'; a checkpoint of the public code holds feature_extractor",
        ),
        (lambda c: c | {"model_D": {}}, "unknown entry 'model_D'"),
        (lambda c: {}, "entries none"),
        (lambda c: {"classifier": c["classifier"]}, "entries 'classifier'"),
        (lambda c: c | {"classifier": 3}, "entries 'iteration'"),
        (lambda c: c | {"iteration": "last"}, "iteration is 'last', expected a whole number"),
        (lambda c: c | {"classifier": c["classifier"] | {"names": ["road"]}}, "classifier.names is no tensor"),
        (
            lambda c: c | {"classifier": c["classifier"] | {"module.conv2d_list.0.bias": torch.ones(5)}},
            r"classifier.module.conv2d_list.0.bias occurs twice",
        ),
    ],
)
def test_other_contents_are_refused(change, message: str) -> None:
    with pytest.raises(UserError, match=f"^checkpoint: {message}"):
        from_public(change(public_checkpoint("v2", "resnet18")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "layer3.1" not in k}, "lacks 10 .* backbone.layer3.1.conv1.weight"),
        (lambda s: s | {"head.neck.bias": torch.ones(2)}, "holds 1 .* head.neck.bias"),
        (lambda s: s | {"head.conv2d_list.2.bias": torch.ones(19)}, r"head.conv2d_list.2.bias has shape \(19,\)"),
    ],
)
def test_parameters_that_do_not_fit_are_named(change, message: str) -> None:
    state = from_public(public_checkpoint("v2", "resnet18"))
    with pytest.raises(UserError, match=rf"model.pth:? {message}"):
        fill(DeepLabV2(5, "resnet18"), change(state), "model.pth")


def test_parameters_outside_backbone_and_head_have_no_public_place() -> None:
    with pytest.raises(UserError, match=r"neck.weight is part of neither backbone nor head"):
        to_public({"neck.weight": torch.ones(1)})
