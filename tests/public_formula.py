"""The public code's networks as plain formulas, and seeded checkpoints of them: an oracle that uses none of ours."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

DILATED = {8: [False, True, True], 16: [False, False, True], 32: [False, False, False]}
WIDTHS = {"resnet18": (64, 512), "resnet50": (256, 2048)}  # at stride 4 and at the end
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def public_checkpoint(
    head: str, backbone: str = "resnet50", classes: int = 5, channels: int = 8, seed: int = 3
) -> dict:
    """What the public code would save; BatchNorm's variances are so small that an eps would show."""
    generator = torch.Generator().manual_seed(seed)
    names = [f"backbone.{key}" for key in _trunk(backbone, 32).state_dict() if not key.startswith("fc.")]
    shapes = {key: value.shape for key, value in _trunk(backbone, 32).state_dict().items()}
    low, high = WIDTHS[backbone]
    head_shapes = _v2_shapes(high, classes) if head == "v2" else _v3plus_shapes(low, high, classes, channels)
    return {
        "iteration": 40_000,
        "feature_extractor": _fill({name: shapes[name.removeprefix("backbone.")] for name in names}, generator),
        "classifier": _fill(head_shapes, generator),
        "optimizer_fea": {"state": {}, "param_groups": [{"lr": 2.5e-4, "params": [0]}]},
        "optimizer_cls": {"state": {}, "param_groups": [{"lr": 2.5e-3, "params": [0]}]},
    }


def public_logits(checkpoint: dict, images: Tensor, backbone: str = "resnet50", output_stride: int = 8) -> Tensor:
    """Logits ``(B, C, H, W)`` at the images' own size."""
    trunk = _trunk(backbone, output_stride).eval()
    extractor = {key.removeprefix("backbone."): value for key, value in checkpoint["feature_extractor"].items()}
    trunk.load_state_dict(extractor)
    with torch.no_grad():
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(images))))
        low = trunk.layer1(x)
        high = trunk.layer4(trunk.layer3(trunk.layer2(low)))
        state = checkpoint["classifier"]
        logits = _v2(high, state) if "conv2d_list.0.weight" in state else _v3plus(low, high, state)
        return _resize(logits, images)


def _trunk(name: str, output_stride: int) -> nn.Module:
    dilated = {} if output_stride == 32 else {"replace_stride_with_dilation": DILATED[output_stride]}
    network = models.get_model(name, weights=None, norm_layer=partial(FrozenBatchNorm2d, eps=0.0), **dilated)
    network.fc = nn.Identity()
    return network


def _v2_shapes(high: int, classes: int) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for index in range(4):
        shapes |= {f"conv2d_list.{index}.weight": (classes, high, 3, 3), f"conv2d_list.{index}.bias": (classes,)}
    return shapes


def _v3plus_shapes(low: int, high: int, classes: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(key: str, inputs: int, outputs: int, kernel: int, first: int = 0) -> None:
        shapes[f"{key}.{first}.weight"] = (outputs, inputs, kernel, kernel)
        shapes.update({f"{key}.{first + 1}.{name}": (outputs,) for name in STATISTICS})

    def separable(key: str, inputs: int, outputs: int) -> None:
        shapes[f"{key}.depthwise_conv.weight"] = (inputs, 1, 3, 3)
        shapes[f"{key}.pointwise_conv.weight"] = (outputs, inputs, 1, 1)
        for part, count in (("depthwise", inputs), ("pointwise", outputs)):
            shapes.update({f"{key}.{part}_bn.{name}": (count,) for name in STATISTICS})

    conv("parallel_branches.0", high, width, 1)
    for index in (1, 2, 3):
        separable(f"parallel_branches.{index}", high, width)
    conv("global_branch", high, width, 1, first=1)
    conv("bottleneck", 5 * width, width, 3)
    conv("shortcut", low, 48, 1)
    separable("decoder.0", width + 48, width)
    separable("decoder.1", width, width)
    return shapes | {"decoder.3.weight": (classes, width, 1, 1), "decoder.3.bias": (classes,)}


def _fill(shapes: dict[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, Tensor]:
    state = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            state[key] = noise * (2 / noise[0].numel()) ** 0.5
        elif key.endswith("running_var"):
            state[key] = 1e-5 * (0.5 + noise.abs())
        elif key.endswith(".weight"):  # of the order of the deviation, so that activations keep their size
            state[key] = 3e-3 * (1 + 0.1 * noise)
        elif key.endswith("running_mean"):
            state[key] = 1e-3 * noise
        else:
            state[key] = 0.1 * noise
    return state


def _v2(high: Tensor, state: dict[str, Tensor]) -> Tensor:
    parts = [
        F.conv2d(high, state[f"conv2d_list.{i}.weight"], state[f"conv2d_list.{i}.bias"], padding=rate, dilation=rate)
        for i, rate in enumerate((6, 12, 18, 24))
    ]
    return parts[0] + parts[1] + parts[2] + parts[3]


def _v3plus(low: Tensor, high: Tensor, state: dict[str, Tensor]) -> Tensor:
    def norm(x: Tensor, key: str) -> Tensor:
        weight, bias, mean, var = (state[f"{key}.{name}"].reshape(-1, 1, 1) for name in STATISTICS)
        return ((x - mean) * weight * var.rsqrt() + bias).relu()

    def conv(x: Tensor, key: str, padding: int = 0, first: int = 0) -> Tensor:
        return norm(F.conv2d(x, state[f"{key}.{first}.weight"], padding=padding), f"{key}.{first + 1}")

    def separable(x: Tensor, key: str, rate: int = 1) -> Tensor:
        deep = F.conv2d(x, state[f"{key}.depthwise_conv.weight"], padding=rate, dilation=rate, groups=x.shape[1])
        deep = norm(deep, f"{key}.depthwise_bn")
        return norm(F.conv2d(deep, state[f"{key}.pointwise_conv.weight"]), f"{key}.pointwise_bn")

    branches = [conv(high, "parallel_branches.0")]
    branches += [separable(high, f"parallel_branches.{i}", rate) for i, rate in ((1, 6), (2, 12), (3, 18))]
    branches += [conv(high.mean((2, 3), keepdim=True), "global_branch", first=1).expand_as(branches[0])]
    context = _resize(conv(torch.cat(branches, 1), "bottleneck", padding=1), low)
    fused = torch.cat([context, conv(low, "shortcut")], 1)
    features = separable(separable(fused, "decoder.0"), "decoder.1")
    return F.conv2d(features, state["decoder.3.weight"], state["decoder.3.bias"])


def _resize(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values, like.shape[-2:], mode="bilinear", align_corners=True)
