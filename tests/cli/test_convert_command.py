"""``ripu-convert``: a public checkpoint becomes one that ``ripu-evaluate`` takes, and goes back unchanged."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from public_formula import public_checkpoint, public_logits
from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.cli import convert, evaluate
from ripu_lightning.data import Streets
from ripu_lightning.data.transforms import MEAN, STD
from ripu_lightning.experiment.checkpoints import GROUPS
from ripu_lightning.networks import DeepLabV2
from ripu_lightning.report.result import UNKNOWN_LABELLING

STREETS = ["data.target.height=64", "data.target.width=96", "data.target_eval.length=2", "optimizer=published"]
RESNET18 = ["network.backbone=resnet18", "network.output_stride=32"]
PARTS = ("feature_extractor", "classifier")
V2 = [*STREETS, "network=deeplab_v2", *RESNET18]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, module, *arguments: str) -> None:
    """In this process, to spare each case the seconds that importing torch takes."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, convert, *arguments)
    assert stopped.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def save(content: object, name: str = "public.pth") -> None:
    torch.save(content, name)


@pytest.mark.parametrize("head", ["v2", "v3plus"])
def test_a_converted_checkpoint_is_evaluated_as_the_public_code_would(
    head: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = public_checkpoint(head, "resnet18", classes=13)
    wrapped = {part: {f"module.{k}": v for k, v in checkpoint[part].items()} for part in PARTS}
    save(checkpoint | wrapped)
    network = V2 if head == "v2" else [*STREETS, "network=deeplab_v3plus", *RESNET18, "network.channels=8"]
    command(monkeypatch, convert, "checkpoint=public.pth", "to=new/ripu.ckpt", *network)
    assert sorted(path.name for path in here.iterdir()) == ["new", "public.pth"]
    assert [path.name for path in Path("new").iterdir()] == ["ripu.ckpt"]
    command(monkeypatch, evaluate, "checkpoint=new/ripu.ckpt", "output=out", "trainer.accelerator=cpu")
    images = Streets("target", "val", length=2, height=64, width=96)
    for index, image_id in enumerate(images.ids):
        pixels = torch.from_numpy(images.image(index)).permute(2, 0, 1) / 255
        inputs = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        expected = public_logits(checkpoint, inputs[None], "resnet18", 32).argmax(1)[0].numpy()
        with Image.open(Path("out/predictions") / f"{image_id}.png") as picture:
            predicted = np.array(picture)
        assert len(np.unique(expected)) > 1
        assert (predicted == expected).mean() > 0.999  # all but ties


def test_there_and_back_through_files(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = public_checkpoint("v2", "resnet18", classes=13)
    save(checkpoint)
    command(monkeypatch, convert, "checkpoint=public.pth", "to=ripu.ckpt", *V2)
    command(monkeypatch, convert, "checkpoint=ripu.ckpt", "to=back.pth")
    back = torch.load("back.pth", weights_only=True)
    assert back.keys() == checkpoint.keys()
    assert back["iteration"] == 40_000
    for part in PARTS:
        assert back[part].keys() == checkpoint[part].keys()
        assert all(torch.equal(back[part][key], value) for key, value in checkpoint[part].items())


def test_a_trained_checkpoint_becomes_the_same_function_without_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variances are so small that an eps of 1e-5 shows."""
    public = public_checkpoint("v2", "resnet18", classes=13)
    save(public | {"iteration": 123})
    command(monkeypatch, convert, "checkpoint=public.pth", "to=ripu.ckpt", *V2)
    ours = torch.load("ripu.ckpt", weights_only=True)
    ours["hyper_parameters"]["config"]["network"]["batchnorm_eps"] = None
    save(ours, "trained.ckpt")
    command(monkeypatch, convert, "checkpoint=trained.ckpt", "to=back.pth")
    network = DeepLabV2(13, "resnet18", output_stride=32).eval()
    network.load_state_dict({k.removeprefix("network."): v for k, v in ours["state_dict"].items()})
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = interpolate(network(images).logits, (64, 96), mode="bilinear", align_corners=True)
    back = torch.load("back.pth", weights_only=True)
    assert back["iteration"] == 123
    found, without = (public_logits(each, images, "resnet18", 32) for each in (back, public))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert (without - expected).std() > 0.01 * expected.std()


def test_classes_come_from_the_class_map_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of the data are nowhere; what the checkpoint needs of them is the class map."""
    save(public_checkpoint("v2", "resnet18", classes=2))
    Path("two.yaml").write_text("classes: [{name: ground, color: [1, 2, 3]}, {name: thing, color: [9, 2, 3]}]\n")
    folders = ["data=folder", "data.source.root=a", "data.target.root=b", "data.source.classes=two.yaml"]
    command(monkeypatch, convert, "checkpoint=public.pth", "to=ripu.ckpt", *folders, "network=deeplab_v2", *RESNET18)
    saved = torch.load("ripu.ckpt", weights_only=True)["hyper_parameters"]
    assert saved["classes"] == load_class_map("two.yaml").as_dict() == saved["config"]["data"]["target"]["classes"]
    assert saved["config"]["data"]["target"]["root"] == str(Path("b").resolve())
    assert {key: saved["config"]["network"][key] for key in ("weights", "batchnorm_eps")} == {
        "weights": None, "batchnorm_eps": 0.0,
    }  # fmt: skip
    assert saved["config"]["batchnorm"] == "frozen"
    assert not {"checkpoint", "to", "classes"} & saved["config"].keys()


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (None, V2, ["checkpoint: no file public.pth"]),
        (b"not a checkpoint", V2, ["checkpoint: cannot read public.pth"]),
        ([torch.ones(2)], V2, ["checkpoint: public.pth holds a list"]),
        ({"weights": torch.ones(2)}, V2, ["checkpoint: unknown entry 'weights'", "feature_extractor"]),
        ("v2", ["network=deeplab_v2", *RESNET18, "classes=roads"], ["public.pth (classes=roads, ", "has shape (13,"]),
        ("v2", [*V2, "network.backbone=resnet50"], ["public.pth", "lacks", "backbone.layer1.0.conv3.weight"]),
        ("v3plus", V2, ["public.pth", "lacks 8", "head.conv2d_list.0.weight"]),
        ("v2", [], ["network is SmallNet", "network=deeplab_v2"]),
        ("v2", ["network=deeplab_v3plus_lite"], ["backbone efficientnet_lite0", "ResNets"]),
        ("v2", [*V2, "classes=streats"], ["no class map 'streats'; did you mean 'streets'"]),
    ],
)
def test_mistakes(content, arguments: list[str], words: list[str], here: Path, monkeypatch, capsys) -> None:
    if isinstance(content, bytes):
        Path("public.pth").write_bytes(content)
    elif content is not None:
        save(public_checkpoint(content, "resnet18", classes=13) if isinstance(content, str) else content)
    line = refused(monkeypatch, capsys, "checkpoint=public.pth", "to=ripu.ckpt", *arguments)
    assert all(word in line for word in words), line
    assert {path.name for path in here.iterdir()} <= {"public.pth"}


def test_an_existing_file_is_never_replaced(monkeypatch, capsys) -> None:
    save(public_checkpoint("v2", "resnet18", classes=13))
    Path("ripu.ckpt").write_text("precious")
    line = refused(monkeypatch, capsys, "checkpoint=public.pth", "to=ripu.ckpt", *V2)
    assert "to: ripu.ckpt exists already" in line
    assert Path("ripu.ckpt").read_text() == "precious"


def test_a_checkpoint_of_another_network_has_no_public_form(monkeypatch, capsys) -> None:
    config = {group: {} for group in GROUPS} | {"name": "a", "seed": 0, "batchnorm": "frozen", "average_decay": None}
    config["network"] = {"_target_": "ripu_lightning.networks.SmallNet", "width": 8}
    known = {"classes": ClassMap.from_names(["a", "b"]).as_dict(), "config": config}
    state = {"network.head.weight": torch.ones(2)}
    save({"state_dict": state, "hyper_parameters": known, "callbacks": {"RunFiles": UNKNOWN_LABELLING}}, "small.ckpt")
    line = refused(monkeypatch, capsys, "checkpoint=small.ckpt", "to=public.pth")
    assert "the network of small.ckpt is SmallNet" in line


def test_help_and_missing_values(here: Path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, convert, "--help")
    assert stopped.value.code in {None, 0}
    assert "usage: ripu-convert" in capsys.readouterr().out
    assert "checkpoint has no value" in refused(monkeypatch, capsys, "to=a.pth")
    assert "did you mean 'checkpoint'" in refused(monkeypatch, capsys, "to=a.pth", "chekpoint=b.pth")
    assert not list(here.iterdir())
