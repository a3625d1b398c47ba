"""Networks of other packages: shapes, gradients, local weights, errors, and a round of training with each."""

import socket
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import seed_everything
from torch import Tensor, nn

from ripu_lightning.data import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.networks import SegFormer, SegmentationModelsPytorch, SegmentationNetwork
from ripu_lightning.training import SegmentationModule
from tiny import CLASSES, Blocks, loop, losses, trainer

BUILDERS = {
    "unet": lambda: SegmentationModelsPytorch(3, "unet", "resnet18"),
    "segformer": lambda: SegFormer(3),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails at once."""

    def refuse(*_: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


# --- the contract ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "encoder", "stride"),
    [
        ("unet", "resnet18", 1),
        ("linknet", "mobilenet_v2", 1),
        ("fpn", "resnet18", 4),
        ("deeplabv3plus", "resnet18", 4),
        ("upernet", "mit_b0", 4),
        ("unet", "tu-resnet10t", 1),
    ],
)
def test_smp_shapes(architecture: str, encoder: str, stride: int) -> None:
    network = SegmentationModelsPytorch(5, architecture, encoder).eval()
    assert isinstance(network, SegmentationNetwork)
    for height, width in ((64, 96), (65, 97)):
        with torch.no_grad():
            logits, features = network(noise(2, 3, height, width))
        assert logits.shape == (2, 5, height, width)
        assert logits.std() > 0
        assert features.shape[-2:] == (-(-height // stride), -(-width // stride))


def test_smp_pads_below_and_right_and_cuts_that_off() -> None:
    network, images = SegmentationModelsPytorch(5, "linknet", "resnet18").eval(), noise(1, 3, 65, 97)
    with torch.no_grad():
        whole = network(F.pad(images, (0, 31, 0, 31)))
        cut = network(images)
    assert torch.equal(cut.logits, whole.logits[..., :65, :97])
    assert torch.equal(cut.features, whole.features[..., :65, :97])


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97)])
def test_segformer_shapes(height: int, width: int) -> None:
    network = SegFormer(5).eval()
    assert isinstance(network, SegmentationNetwork)
    with torch.no_grad():
        logits, features = network(noise(2, 3, height, width))
    assert logits.shape == (2, 5, -(-height // 4), -(-width // 4))
    assert features.shape == (2, 256, *logits.shape[-2:])
    weight, bias = (network.head["classifier"].get_parameter(name) for name in ("weight", "bias"))
    torch.testing.assert_close(logits, F.conv2d(features, weight, bias))


@pytest.mark.parametrize(("variant", "millions"), [("b0", 3.7), ("b2", 27.4), ("b5", 84.6)])
def test_segformer_has_the_papers_sizes(variant: str, millions: float) -> None:
    with torch.device("meta"):  # Xie et al. (2021), table 1: 3.8, 27.5 and 84.7 with 150 classes
        network = SegFormer(19, variant)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_reach_every_parameter_of_both_parts(name: str) -> None:
    torch.manual_seed(0)
    network = BUILDERS[name]().train()
    logits = network(noise(2, 3, 64, 64)).logits
    (logits * noise(*logits.shape, seed=1)).sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert all(any(p.grad.any() for p in part.parameters()) for part in (network.backbone, network.head))
    parts = [id(p) for part in (network.backbone, network.head) for p in part.parameters()]
    assert sorted(parts) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize("name", BUILDERS)
def test_a_round_of_training_moves_both_parts(name: str, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    network = BUILDERS[name]()
    sgd = partial(torch.optim.SGD, lr=1e-3)
    module = SegmentationModule(network, losses(), CLASSES.names, optimizer=sgd, batchnorm="frozen")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    parts = [Blocks(name, 3, height=32, width=40) for name in ("source", "target!", "val")]
    data = ActiveDataModule(*parts, batch_size=2)
    active = loop(tmp_path / "labels", data, rounds=1)
    trainer(tmp_path, active).fit(module, data)
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert all(any(key.startswith(part) for key in moved) for part in ("backbone.", "head."))
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert len(active.history) == 2


# --- weights -----------------------------------------------------------------------------------------------


def test_a_saved_encoder_loads_again(tmp_path: Path, offline: None) -> None:
    saved = SegmentationModelsPytorch(3, "unet", "resnet18").eval()
    torch.save(saved.backbone.state_dict(), tmp_path / "encoder.pt")
    loaded = SegmentationModelsPytorch(7, "fpn", "resnet18", str(tmp_path / "encoder.pt")).eval()
    with torch.no_grad():
        pairs = zip(saved.backbone(noise(1, 3, 64, 64)), loaded.backbone(noise(1, 3, 64, 64)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_failed_download_of_an_encoder_says_how_to_go_on(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"weights of resnet18 could not be downloaded .*torch\.save"):
        SegmentationModelsPytorch(3, "unet", "resnet18", "imagenet")


def segformer_of_transformers(classes: int, **options: object) -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=classes, **options)).eval()


def test_a_saved_segformer_is_the_same_function(tmp_path: Path, offline: None) -> None:
    saved = segformer_of_transformers(3)
    saved.decode_head.batch_norm.running_var.uniform_(0.5, 2)
    saved.save_pretrained(tmp_path)
    loaded = SegFormer(3, "b0", str(tmp_path)).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(noise(1, 3, 64, 96)).logits, saved(noise(1, 3, 64, 96)).logits)


def test_other_classes_keep_encoder_and_decoder(tmp_path: Path, offline: None) -> None:
    saved = segformer_of_transformers(150).half()
    saved.save_pretrained(tmp_path)
    loaded = SegFormer(3, "b0", str(tmp_path)).state_dict()
    decoder = {f"head.decoder.{key}": value for key, value in saved.decode_head.state_dict().items()}
    kept = {f"backbone.{key}": value for key, value in saved.segformer.state_dict().items()}
    kept |= {key: value for key, value in decoder.items() if "classifier" not in key}
    assert all(torch.equal(loaded[key], value.to(loaded[key].dtype)) for key, value in kept.items())
    assert loaded["head.classifier.weight"].shape == (3, 256, 1, 1)
    assert {value.dtype for value in loaded.values()} == {torch.float32, torch.int64}


def test_an_encoder_alone_is_enough(tmp_path: Path, offline: None) -> None:
    from transformers import SegformerConfig, SegformerForImageClassification

    saved = SegformerForImageClassification(SegformerConfig(num_labels=10))
    saved.save_pretrained(tmp_path)
    loaded = SegFormer(3, "b0", str(tmp_path)).backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.segformer.state_dict().items())


# --- what is refused ---------------------------------------------------------------------------------------


def test_folders_that_hold_no_such_segformer(tmp_path: Path, offline: None) -> None:
    with pytest.raises(UserError, match=r"SegFormer: weights must be a folder .* no config\.json in .*gone"):
        SegFormer(3, "b0", str(tmp_path / "gone"))
    segformer_of_transformers(3, depths=[2, 2, 2, 1]).save_pretrained(tmp_path / "short")
    with pytest.raises(UserError, match=r"short are not those of a SegFormer b0; the first difference is segformer\."):
        SegFormer(3, "b0", str(tmp_path / "short"))
    segformer_of_transformers(3, hidden_sizes=[32, 64, 96, 128]).save_pretrained(tmp_path / "narrow")
    with pytest.raises(UserError, match="narrow are not those of a SegFormer b0"):
        SegFormer(3, "b0", str(tmp_path / "narrow"))
    (tmp_path / "narrow" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"SegFormer: weights cannot be loaded from .*narrow"):
        SegFormer(3, "b0", str(tmp_path / "narrow"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SegFormer(3, "b7"), "SegFormer: variant 'b7' is unknown; known: b0, b1"),
        (lambda: SegFormer(3)(noise(1, 3, 31, 64)), "SegFormer: images must be 32x32 or larger, got 31x64"),
        (lambda: SegFormer(1), "SegFormer: num_classes .* got 1"),
        (lambda: SegmentationModelsPytorch(1), "SegmentationModelsPytorch: num_classes .* got 1"),
        (lambda: SegmentationModelsPytorch(3, "unett"), "architecture 'unett' is unknown .*; did you mean .*'unet'"),
        (lambda: SegmentationModelsPytorch(3, "dpt"), "architecture 'dpt' is unknown"),
        (lambda: SegmentationModelsPytorch(3, "unet", "resnet19"), "encoder .* did you mean .*'resnet18'"),
        (lambda: SegmentationModelsPytorch(3, "unet", "tu-resnet19"), "encoder .* did you mean 'tu-resnet"),
        (lambda: SegmentationModelsPytorch(3, "linknet", "mit_b0"), "encoder mit_b0 does not fit"),
        (lambda: SegmentationModelsPytorch(3, "unet", "resnet18", "gone.pt"), "weights must be .* no file gone.pt"),
    ],
)
def test_wrong_arguments(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("unet", "segmentation_models_pytorch", "smp"), ("segformer", "transformers", "segformer")],
)
def test_missing_packages_say_what_to_install(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"package {package} .* pip install 'ripu-lightning\[{extra}\]'"):
        BUILDERS[name]()
