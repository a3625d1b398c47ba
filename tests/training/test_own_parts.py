"""A user's own LightningModule and own LightningDataModule, written without any base class of this package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

import tiny
from ripu_lightning import ActiveLearningLoop, Budget, GroundTruth, LabelStore, Schedule, get_strategy
from ripu_lightning.acquisition import Superpixel
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.labels import Stage

SCHEDULE = Schedule(steps=8, first_round=3, interval=2, rounds=2)


class OwnModule(LightningModule):
    """Nothing of ours: three layers, Adam, one metric."""

    def __init__(self, metric: str | None = "val/miou") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
        self.metric, self.labelled = metric, []

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def training_step(self, batch, batch_idx):
        image, label = batch
        self.labelled.append(int((label != 255).sum()))
        loss = nn.functional.cross_entropy(self(image), label.long(), ignore_index=255, reduction="sum")
        return loss / (label != 255).sum().clamp(min=1)

    def validation_step(self, batch, batch_idx) -> None:
        image, label = batch
        if self.metric:
            self.log(self.metric, (self(image).argmax(1) == label).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Pictures(Dataset):
    def __init__(self, data: tiny.Blocks, masks=None) -> None:
        self.data, self.masks = data, masks or data.label

    def __len__(self) -> int:
        return len(self.data)

    def image(self, index: int) -> Tensor:
        return torch.from_numpy(self.data.image(index)).permute(2, 0, 1) / 255

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.image(index), torch.from_numpy(self.masks(index))


class PoolPictures(Pictures):
    def __getitem__(self, index: int) -> dict[str, object]:
        return {"image": self.image(index), "id": self.data.ids[index]}


class OwnDataModule(LightningDataModule):
    """The four members of ``ActivePool`` and the loaders that Lightning asks for."""

    class_names = tiny.CLASSES.names

    def __init__(self, length: int = 5, draws: int = 1000) -> None:
        super().__init__()
        self.target, self.draws = tiny.Blocks("target!", length), draws
        self.image_sizes = dict.fromkeys(self.target.ids, (24, 32))
        self.stages: list[Stage] = []

    def begin_stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def pool_dataloader(self):
        return DataLoader(PoolPictures(self.target), batch_size=2)

    def train_dataloader(self):
        labels = self.stages[-1].labels
        pictures = Pictures(self.target, lambda index: labels.mask(self.target.ids[index]))
        return DataLoader(pictures, batch_size=2, sampler=RandomSampler(pictures, True, self.draws))

    def val_dataloader(self):
        return DataLoader(Pictures(tiny.Blocks("val", 3)), batch_size=2)


class Reversed(tiny.Blocks):
    """The same images under the same ids, in another order."""

    def __init__(self, length: int = 5, height: int = 24) -> None:
        super().__init__("target!", length, height)
        self.ids = self.ids[::-1]

    def _draw_label(self, index: int) -> np.ndarray:
        return super()._draw_label(len(self.ids) - 1 - index)


def fit(
    folder: Path, module: LightningModule, data: LightningDataModule, strategy: str = "ripu", **options
) -> ActiveLearningLoop:
    loop = ActiveLearningLoop(
        get_strategy(strategy, **options),
        Budget(ratio=0.1, rounds=2),
        GroundTruth(tiny.Blocks("target!")),
        SCHEDULE,
        folder,
    )
    run(loop, module, data)
    return loop


def run(loop: ActiveLearningLoop, module: LightningModule, data: LightningDataModule) -> None:
    trainer = Trainer(
        **loop.trainer_arguments(),
        callbacks=[loop],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, datamodule=data)


def test_two_rounds_with_nothing_but_ones_own(tmp_path: Path) -> None:
    module, data = OwnModule(), OwnDataModule()
    loop = fit(tmp_path / "labels", module, data)
    store, truth = LabelStore.open(tmp_path / "labels"), data.target
    assert len(store.rounds) == 2
    for index, image_id in enumerate(truth.ids):
        queried = store.query_round(image_id) > 0
        assert np.array_equal(store.mask(image_id), np.where(queried, truth.label(index), 255))
    assert [(stage.number, stage.start, stage.stop, stage.labels.rounds) for stage in data.stages] == [
        (0, 0, 3, 0),
        (1, 3, 5, 1),
        (2, 5, 8, 2),
    ]
    before, first, second = module.labelled[:3], module.labelled[3:5], module.labelled[5:]
    assert (len(module.labelled), max(before)) == (8, 0)
    assert 0 < max(first) < min(second)
    assert all(0 < record.miou <= 1 for record in loop.history)


def test_a_missing_metric_is_said_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="logged no val/miou") as said:
        loop = fit(tmp_path / "labels", OwnModule(metric="val_iou"), OwnDataModule())
    assert sum("val/miou" in str(each.message) for each in said) == 1
    assert np.isnan([record.miou for record in loop.history]).all()


def test_a_loader_shorter_than_a_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train_dataloader: gives 2 batches, but stage 0 has 3 steps"):
        fit(tmp_path / "labels", OwnModule(), OwnDataModule(draws=4))


@pytest.mark.parametrize("member", ["class_names", "image_sizes", "pool_dataloader", "begin_stage"])
def test_a_datamodule_without_a_member_is_named(tmp_path: Path, member: str) -> None:
    class Lacking(LightningDataModule):
        pass

    data = Lacking()
    for name in {"class_names", "image_sizes", "pool_dataloader", "begin_stage"} - {member}:
        setattr(data, name, getattr(OwnDataModule(), name))
    with pytest.raises(UserError, match=f"ActiveLearningLoop: Lacking lacks {member}"):
        fit(tmp_path / "labels", OwnModule(), data)


def test_loaders_without_a_datamodule_are_refused(tmp_path: Path) -> None:
    loop = ActiveLearningLoop(
        get_strategy("ripu"),
        Budget(ratio=0.1, rounds=2),
        GroundTruth(tiny.Blocks("target!")),
        SCHEDULE,
        tmp_path / "labels",
    )
    trainer = Trainer(**loop.trainer_arguments(), callbacks=[loop], accelerator="cpu", logger=False)
    with pytest.raises(UserError, match="no datamodule was given"):
        trainer.fit(OwnModule(), DataLoader(Pictures(tiny.Blocks("target!"))))


POOLS = {
    "twice": (lambda data: [PoolPictures(data)[0], *PoolPictures(data)], "image 'target!_0' twice"),
    "shuffled": (lambda data: list(PoolPictures(data))[::-1], "image 'target!_3' out of the order of image_sizes"),
    "left out": (lambda data: list(PoolPictures(data))[:-1], "image 'target!_4' 0 times"),
    "unknown": (lambda data: [{"image": torch.zeros(3, 24, 32), "id": "other"}], "'other' is no id of image_sizes"),
    "no id": (lambda data: [{"image": torch.zeros(3, 24, 32)}], "expected batches with the keys image and id"),
}


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_that_is_not_each_image_once_queries_nothing(tmp_path: Path, kind: str) -> None:
    samples, message = POOLS[kind]

    class Broken(OwnDataModule):
        def pool_dataloader(self):
            return DataLoader(samples(self.target), batch_size=1)

    with pytest.raises(UserError, match=message):
        fit(tmp_path / "labels", OwnModule(), Broken())
    assert LabelStore.open(tmp_path / "labels").rounds == ()


def test_superpixels_need_a_loader_that_segments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give OwnDataModule\.pool_dataloader an argument segment"):
        fit(tmp_path / "labels", OwnModule(), OwnDataModule(), "entropy", region_type=Superpixel(12))


@pytest.mark.parametrize("strategy", ["mada", "d2ada"])
def test_strategies_that_learn_from_the_source_need_one(tmp_path: Path, strategy: str) -> None:
    budget, oracle = Budget(ratio=0.5, rounds=2, per="pool"), GroundTruth(tiny.Blocks("target!"))
    loop = ActiveLearningLoop(get_strategy(strategy), budget, oracle, SCHEDULE, tmp_path / "labels")
    with pytest.raises(UserError, match=f"strategy {strategy} learns from the source, but OwnDataModule has none"):
        loop.check(OwnDataModule())


def test_the_oracle_finds_images_by_their_ids(tmp_path: Path) -> None:
    truth = tiny.Blocks("target!")
    loop = ActiveLearningLoop(
        get_strategy("ripu"), Budget(ratio=0.1, rounds=2), GroundTruth(Reversed()), SCHEDULE, tmp_path / "labels"
    )
    run(loop, OwnModule(), OwnDataModule())
    store = LabelStore.open(tmp_path / "labels")
    assert len(store.rounds) == 2
    for index, image_id in enumerate(truth.ids):
        queried = store.query_round(image_id) > 0
        assert queried.any()
        assert np.array_equal(store.mask(image_id)[queried], truth.label(index)[queried])


class OtherClasses(tiny.Blocks):
    def __init__(self) -> None:
        super().__init__("target!")
        self.classes = tiny.ClassMap(names=("sky", "road", "tree"), colors=tiny.CLASSES.colors)


ORACLES = {
    "other ids": (tiny.Blocks("other!!"), "GroundTruth: dataset has no image 'target!_0'; give it the ids of the pool"),
    "too few": (tiny.Blocks("target!", 4), "GroundTruth: dataset has no image 'target!_4'"),
    "another size": (Reversed(height=28), r"has image 'target!_0' with \(H, W\) \(28, 32\), but image_sizes says"),
    "no labels": (Unlabelled(tiny.Blocks("target!")), "GroundTruth: dataset has no labels to answer from"),
    "other classes": (OtherClasses(), "has the classes sky, road, tree, but the datamodule has road, sky, tree"),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_an_oracle_of_other_data_is_refused_before_training(tmp_path: Path, kind: str) -> None:
    dataset, message = ORACLES[kind]
    module = OwnModule()
    loop = ActiveLearningLoop(
        get_strategy("ripu"), Budget(ratio=0.1, rounds=2), GroundTruth(dataset), SCHEDULE, tmp_path / "labels"
    )
    with pytest.raises(InvalidArgument, match=message):
        run(loop, module, OwnDataModule())
    assert not module.labelled


def test_an_oracle_must_be_a_data_set() -> None:
    with pytest.raises(InvalidArgument, match="dataset must be a SegmentationDataset, got Pictures; wrap it"):
        GroundTruth(Pictures(tiny.Blocks("target!")))


def test_labels_that_are_there_are_used_again_with_a_warning(tmp_path: Path) -> None:
    fit(tmp_path / "labels", OwnModule(), OwnDataModule())
    with pytest.warns(UserWarning, match=r"holds 2 rounds selected by ripu; they are used again"):
        fit(tmp_path / "labels", OwnModule(), OwnDataModule(), "random")
    assert [entry.strategy for entry in LabelStore.open(tmp_path / "labels").rounds] == ["ripu", "ripu"]


def test_a_round_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    """A DataLoader draws from it when it is read: without labels to query, a run would draw other batches."""
    weights = []
    for _ in range(2):  # the second one uses the labels of the first
        module = OwnModule()
        torch.manual_seed(7)
        fit(tmp_path / "labels", module, OwnDataModule())
        weights.append(list(module.state_dict().values()))
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


class Dictionary(OwnModule):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.layers(images)}


class TwoClasses(OwnModule):
    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)[:, :2]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Dictionary, r"forward: must return logits \(B, C, h, w\), or an output with an attribute logits; got dict"),
        (TwoClasses, r"forward: expected logits \(B, 3, h, w\), a channel a class, got \(1, 2, 24, 32\)"),
    ],
)
def test_outputs_that_cannot_be_scored_are_refused_before_training(
    tmp_path: Path, kind: type[OwnModule], message: str
) -> None:
    module = kind()
    with pytest.raises(UserError, match=message):
        fit(tmp_path / "labels", module, OwnDataModule())
    assert not module.labelled


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("class_names", 3, "Lacking.class_names: must be a list of names by index, got 3"),
        ("image_sizes", [(24, 32)], "Lacking.image_sizes: must map each image's id, a string, to its"),
        ("image_sizes", {0: (24, 32)}, "Lacking.image_sizes: must map each image's id, a string, to its"),
    ],
)
def test_members_of_another_kind_are_refused(tmp_path: Path, member: str, value: object, message: str) -> None:
    class Lacking(OwnDataModule):
        pass

    data = Lacking()
    setattr(data, member, value)
    with pytest.raises(UserError, match=message):
        fit(tmp_path / "labels", OwnModule(), data)
