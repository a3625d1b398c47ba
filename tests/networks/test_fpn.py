"""FPN: the plain formula over every backbone's pyramid, frozen BatchNorm, encoders of timm, wrong arguments."""

import sys
from math import ceil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from random_values import noise, shake
from torch import Tensor, nn
from torchvision import models

from ripu_lightning.errors import UserError
from ripu_lightning.networks import FPN, DeepLabV2, SegmentationNetwork, set_batchnorm_eval
from ripu_lightning.networks.backbones import build_backbone

BACKBONES = ["resnet18", "mobilenet_v3_large", "efficientnet_lite0", "timm/test_resnet"]


def build(*arguments: object, **options: object) -> FPN:
    torch.manual_seed(0)
    return FPN(5, *arguments, **options)


# --- the head ----------------------------------------------------------------------------------------------


def plain_head(state: dict[str, Tensor], levels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits and features from the state dict of a head in eval mode."""
    pyramid = None
    for index in reversed(range(len(levels))):
        weight, bias = state[f"laterals.{index}.weight"], state[f"laterals.{index}.bias"]
        lateral = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], levels[index]) + bias.reshape(-1, 1, 1)
        if pyramid is not None:
            lateral += F.interpolate(pyramid, lateral.shape[-2:], mode="bilinear", align_corners=False)
        pyramid = lateral
    mean, variance, weight, bias = (
        state[f"smooth.1.{key}"].reshape(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
    )
    hidden = F.conv2d(pyramid, state["smooth.0.weight"], padding=1)
    features = ((hidden - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)
    return F.conv2d(features, state["classifier.weight"], state["classifier.bias"]), features


@pytest.mark.parametrize("finest_stride", [2, 4])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_fpn_is_the_plain_formula(backbone: str, finest_stride: int) -> None:
    network, images = shake(build(backbone, 8, finest_stride)), noise(2, 3, 65, 97)
    with torch.no_grad():
        levels = network.backbone(images)[1 if finest_stride == 4 else 0 :]
        logits, features = plain_head(network.head.state_dict(), levels)
        found = network(images)
    assert [level.shape[-2:] for level in levels] == [
        (ceil(65 / stride), ceil(97 / stride)) for stride in (2, 4, 8, 16, 32) if stride >= finest_stride
    ]
    torch.testing.assert_close(found.features, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-4)
    assert found.features.shape == (2, 8, ceil(65 / finest_stride), ceil(97 / finest_stride))


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_images_smaller_than_the_coarsest_stride_pass(backbone: str) -> None:
    for height, width in ((32, 32), (31, 33), (7, 90)):
        logits = build(backbone, 8).eval()(noise(1, 3, height, width)).logits
        assert logits.shape == (1, 5, ceil(height / 4), ceil(width / 4))
        assert logits.isfinite().all()


def test_dropout_is_there_in_training_alone() -> None:
    images = noise(2, 3, 32, 48)
    for rate in (0.0, 0.5):
        network = build("resnet18", 16, dropout=rate)
        set_batchnorm_eval(network.train())
        first, second = (network(images) for _ in range(2))
        assert torch.equal(first.features, second.features)
        assert torch.equal(first.logits, second.logits) == (rate == 0)
        assert torch.equal(network.eval()(images).logits, network(images).logits)


def test_frozen_batchnorm_neither_moves_nor_learns() -> None:
    network = build("timm/test_efficientnet", 8).train()
    set_batchnorm_eval(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    network(noise(2, 3, 64, 64)).logits.square().mean().backward()
    assert len(norms) > 10
    assert all(norm.weight.grad is None for norm in norms)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(lateral.weight.grad.any() for lateral in network.head.laterals)


# --- the pyramids of the backbones -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "body"), [("resnet18", slice(-2)), ("mobilenet_v3_large", slice(1))])
def test_levels_are_the_last_features_of_each_size_in_torchvision(name: str, body: slice) -> None:
    reference, ours = shake(models.get_model(name)), build_backbone("Net", name, 32).eval()
    ours.load_state_dict(reference.state_dict(), strict=False)
    features, sized = noise(1, 3, 65, 97), {}
    images = features
    with torch.no_grad():
        for part in list(reference.children())[body]:
            for layer in part if name == "mobilenet_v3_large" else [part]:
                features = layer(features)
                sized[features.shape[-2:]] = features
        levels = ours(images)
    for level, expected, channels in zip(levels, sized.values(), ours.channels, strict=True):
        torch.testing.assert_close(level, expected)
        assert level.shape[1] == channels


def test_levels_of_lite0_are_timms() -> None:
    """timm's port of the same network, with parameters copied in order."""
    ours = shake(build_backbone("Net", "efficientnet_lite0", 32))
    theirs = build_backbone("Net", "timm/tf_efficientnet_lite0", 32).eval()
    encoder = theirs.encoder.state_dict()
    encoder = dict(zip(encoder, ours.state_dict().values(), strict=True))
    theirs.encoder.load_state_dict(encoder)
    assert theirs.channels == ours.channels == (16, 24, 40, 112, 320)
    with torch.no_grad():
        for level, expected in zip(ours(noise(1, 3, 65, 97)), theirs(noise(1, 3, 65, 97)), strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-4)


# --- timm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_mambaout", "test_nfnet"])
def test_encoders_of_timm_meet_the_contract(name: str) -> None:
    network = build(f"timm/{name}", 8).eval()
    assert isinstance(network, SegmentationNetwork)
    with torch.no_grad():
        logits = network(noise(1, 3, 64, 96)).logits
        odd = network(noise(1, 3, 67, 99)).logits
    assert logits.shape == (1, 5, 16, 24)
    assert logits.std() > 0
    assert odd.shape[-2:] in {(16, 24), (17, 25)}  # patches are cut off, convolutions are padded


def test_every_parameter_of_an_encoder_of_timm_gets_a_gradient() -> None:
    network = build("timm/test_convnext", 8).train()
    logits = network(noise(2, 3, 64, 64)).logits
    (logits * noise(*logits.shape, seed=1)).sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(key.startswith(("backbone.", "head.")) for key in network.state_dict())


def test_a_new_network_is_in_training_mode() -> None:
    assert all(module.training for module in build("timm/test_resnet", 8).modules())


def test_an_encoder_of_timm_sees_images_in_its_own_normalisation() -> None:
    backbone = build_backbone("Net", "timm/tf_efficientnet_lite0", 32).eval()
    assert backbone.encoder.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    pixels = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen: list[Tensor] = []
    backbone.encoder.conv_stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    backbone((pixels - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1))
    torch.testing.assert_close(seen[0], 2 * pixels - 1, rtol=1e-4, atol=1e-5)


def test_a_saved_encoder_of_timm_loads_again(tmp_path: Path) -> None:
    saved = shake(build("timm/test_resnet", 8))
    torch.save(saved.backbone.state_dict(), tmp_path / "encoder.pt")
    loaded = FPN(3, "timm/test_resnet", 8, weights=str(tmp_path / "encoder.pt")).eval()
    with torch.no_grad():
        assert torch.equal(loaded.backbone(noise(1, 3, 64, 64))[-1], saved.backbone(noise(1, 3, 64, 64))[-1])
    with pytest.raises(UserError, match=r"FPN: weights .*encoder\.pt lacks"):
        FPN(3, "timm/test_convnext", 8, weights=str(tmp_path / "encoder.pt"))


def test_a_failed_download_says_how_to_continue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"FPN: weights of timm/test_resnet could not be downloaded .*torch\.save"):
        FPN(3, "timm/test_resnet", weights="imagenet")


# --- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FPN(1), "FPN: num_classes must be .* >= 2, got 1"),
        (lambda: FPN(2, channels=0), "FPN: channels .* got 0"),
        (lambda: FPN(2, finest_stride=8), "FPN: finest_stride must be 2 or 4, got 8"),
        (lambda: FPN(2, dropout=1.0), "FPN: dropout must be a number >= 0 and < 1, got 1.0"),
        (lambda: FPN(2, "resnet10"), "FPN: backbone 'resnet10' is unknown; did you mean .*'resnet101'"),
        (lambda: FPN(2, weights="gone.pt"), "FPN: weights must be 'imagenet' or the path .*no file gone.pt"),
        (lambda: FPN(2, "timm/resnet19x"), "FPN: backbone 'timm/resnet19x' is unknown to timm; timm.list_models"),
        (
            lambda: FPN(2, "timm/vit_tiny_patch16_224"),
            "FPN: backbone timm/vit_tiny_patch16_224 does not take images of any size",
        ),
        (lambda: FPN(2, "timm/test_vit"), "backbone .* has features at strides 16, 16, 16, expected 4, 8, 16, 32"),
        (lambda: FPN(2, "timm/test_convnext", finest_stride=2), "finest_stride is 2, but timm/test_convnext begins at"),
        (lambda: DeepLabV2(2, "timm/test_vit", 8), "DeepLabV2: backbone timm/test_vit .* output stride 8"),
    ],
)
def test_wrong_arguments(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"FPN: backbone: package timm .* pip install 'ripu-lightning\[smp\]'"):
        FPN(2, "timm/test_resnet")
