"""The datamodule: labels follow from the stage alone, and batches from the step alone."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, LabelStore, QueriedLabels, Stage
from tiny import denormalize

HEIGHT, WIDTH = 9, 12
NAMES = ("road", "car", "sky")
STEPS = [(0, 6), (6, 10), (10, 16)]
COLORS = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
Bytes = npt.NDArray[np.uint8]


class Pictures(SegmentationDataset):
    """Noise images, each of which carries its index in its first pixel."""

    def __init__(self, count: int, kind: int = 0, shift: int = 0, names: tuple[str, ...] = NAMES) -> None:
        self.ids = [f"set{kind}/{index}" for index in range(count)]
        self.classes = ClassMap(names, COLORS)
        self.kind, self.shift = kind, shift

    def image(self, index: int) -> Bytes:
        image = np.random.default_rng([self.kind, index]).integers(0, 256, (*self.size(index), 3), dtype=np.uint8)
        image[0, 0] = index
        return image

    def label(self, index: int) -> Bytes:
        values = np.array([0, 1, 2, 255], dtype=np.uint8)
        return np.random.default_rng([self.kind, index, 1]).choice(values, self.size(index))

    def size(self, index: int) -> tuple[int, int]:
        return HEIGHT + self.shift * index, WIDTH


class Sealed(Pictures):
    """Its truth must not be opened."""

    def label(self, index: int) -> Bytes:
        raise AssertionError(f"the truth of {self.ids[index]} was read")


class Broken(Pictures):
    """One of its images cannot be read."""

    def image(self, index: int) -> Bytes:
        if index == 1:
            raise UserError("data/1.png: cannot be read; replace or remove it")
        return super().image(index)


def build(target: SegmentationDataset | None = None, **options: Any) -> ActiveDataModule:
    return ActiveDataModule(Pictures(7), target or Sealed(5, kind=1), Pictures(5, kind=2), **options)


def at(
    data: ActiveDataModule,
    number: int = 0,
    step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    store: LabelStore | None = None,
) -> ActiveDataModule:
    """The datamodule in a stage, as a trainer in this state calls it."""
    data.begin_stage(Stage(number, *STEPS[number], QueriedLabels(store, number if store else 0)))
    data.trainer = SimpleNamespace(global_step=step, global_rank=rank, world_size=world_size, accumulate_grad_batches=1)
    return data


def train_batches(data: ActiveDataModule) -> list[dict[str, dict[str, Tensor]]]:
    """The batches that a training step gets."""
    return [data.on_after_batch_transfer(batch, 0) for batch, _, _ in data.train_dataloader()]


def indices(image: Tensor) -> list[int]:
    return [int(denormalize(one)[0, 0, 0]) for one in image]


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one[domain][key], other[domain][key])
        for one, other in zip(first, second, strict=True)
        for domain in ("source", "target")
        for key in ("image", "label")
    )


def open_store(data: ActiveDataModule, folder: Path) -> LabelStore:
    target = data.target
    images = {image_id: target.size(index) for index, image_id in enumerate(target.ids)}
    return LabelStore.create_or_open(folder, classes=NAMES, images=images)


def query(store: LabelStore, image_ids: list[str], top: int) -> None:
    """One query an image: the box 2x3 at (top, 2), answered 0 1 2 / 255 0 1."""
    answers = [
        Answers(
            image_id,
            np.array([[top, 3]], dtype=np.int32),
            np.array([[top, 2, 2, 3]], dtype=np.int32),
            np.array([0, 1, 2, 255, 0, 1], dtype=np.uint8),
            np.array([0.5], dtype=np.float32),
        )
        for image_id in image_ids
    ]
    store.commit(answers, strategy="hand", annotator="hand", exclusion=0)


def expected_mask(tops: list[int]) -> Bytes:
    mask = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    for top in tops:
        mask[top : top + 2, 2:5] = [[0, 1, 2], [255, 0, 1]]
    return mask


@pytest.mark.parametrize("num_workers", [0, 2])
def test_labels_follow_from_the_store(tmp_path: Path, num_workers: int) -> None:
    data = build(num_workers=num_workers, batch_size=2)
    with open_store(data, tmp_path) as store:
        seen: Counter[int] = Counter()
        for number, (start, stop) in enumerate(STEPS):
            batches = train_batches(at(data, number, start, store=store))
            assert len(batches) == stop - start
            for batch in batches:
                assert list(batch) == ["source", "labelled", "target"]
                assert (batch["labelled"] is batch["target"]) == (number == 0)
                for name in ("labelled", "target"):
                    image, label = batch[name]["image"], batch[name]["label"]
                    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
                    for index, mask in zip(indices(image), label, strict=True):
                        tops = [1, 5][:number] if index % 2 == 0 else []
                        np.testing.assert_array_equal(mask.numpy(), expected_mask(tops))
                        assert tops or name == "target" or number == 0
                        seen[index] += 1
            query(store, [data.target.ids[index] for index in (0, 2, 4)], top=[1, 5, 7][number])
        assert set(seen) == set(range(5))
        # A run resumed from an older checkpoint trains on what that stage had.
        for batch in train_batches(at(data, 1, 6, store=store)):
            for index, mask in zip(indices(batch["target"]["image"]), batch["target"]["label"], strict=True):
                np.testing.assert_array_equal(mask.numpy(), expected_mask([1] if index % 2 == 0 else []))


def labelled_draws(data: ActiveDataModule) -> list[list[int]]:
    return [indices(batch["labelled"]["image"]) for batch in train_batches(data)]


@pytest.mark.parametrize("queried", [[3], [0, 4], [0, 1, 3, 4]])
def test_labelled_images_are_drawn_evenly_on_any_number_of_ranks(tmp_path: Path, queried: list[int]) -> None:
    data = build(batch_size=2)
    with open_store(data, tmp_path) as store:
        query(store, [data.target.ids[index] for index in queried], top=1)
        alone = labelled_draws(at(data, 2, 10, store=store))  # the second round is not there yet
        drawn = Counter(index for batch in alone for index in batch)
        assert set(drawn) == set(queried)
        assert max(drawn.values()) - min(drawn.values()) <= 2  # the first pass began earlier, the last one ends later
        ranks = [labelled_draws(at(build(batch_size=1), 2, 10, rank, 2, store)) for rank in range(2)]
        assert [[*left, *right] for left, right in zip(*ranks, strict=True)] == alone
        assert labelled_draws(at(data, 2, 13, store=store)) == alone[3:]  # resumed in the middle of the stage


def test_where_all_images_have_labels_the_target_batch_is_the_labelled_one(tmp_path: Path) -> None:
    data = build(batch_size=2)
    with open_store(data, tmp_path) as store:
        before = train_batches(at(data, 1, 6, store=store))
        query(store, list(data.target.ids), top=1)
        after = train_batches(at(data, 1, 6, store=store))
    assert all(batch["labelled"] is batch["target"] for batch in [*before, *after])
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one["target"]["image"], other["target"]["image"])
        assert bool((one["target"]["label"] == 255).all())
        assert bool((other["target"]["label"] != 255).any(dim=(1, 2)).all())


def test_without_terms_for_unlabelled_images_these_are_not_read(tmp_path: Path) -> None:
    data = build(Broken(3, kind=1), batch_size=1)
    data.domains = frozenset({"source", "labelled"})
    with open_store(data, tmp_path) as store:
        query(store, [data.target.ids[index] for index in (0, 2)], top=1)
        batches = train_batches(at(data, 1, 6, store=store))
    assert [list(batch) for batch in batches] == [["source", "labelled"]] * 4


@pytest.mark.parametrize("domains", [{"source"}, {"labelled"}, {"source", "labelled"}, {"source", "target"}])
def test_a_batch_has_the_same_keys_in_every_stage(tmp_path: Path, domains: set[str]) -> None:
    data = build()
    data.domains = frozenset(domains)
    everything = train_batches(at(build(), 0))
    with open_store(data, tmp_path) as store:
        for number, queried in enumerate([[0], range(5), []]):
            batches = train_batches(at(data, number, STEPS[number][0], store=store))
            assert {frozenset(batch) for batch in batches} == {data.domains}
            if number == 0:  # a part is the same, whichever other parts there are
                for batch, full in zip(batches, everything, strict=True):
                    assert all(torch.equal(batch[name]["image"], full[name]["image"]) for name in domains)
            if queried:
                query(store, [data.target.ids[index] for index in queried], top=1)


def test_without_a_stage_there_are_no_training_batches() -> None:
    with pytest.raises(UserError, match=r"^ActiveDataModule: no stage has begun; add an ActiveLearningLoop.*$"):
        build().train_dataloader()


def test_the_pool_has_names_and_sizes() -> None:
    data = build(Sealed(3, kind=1, shift=2))
    assert data.class_names == NAMES
    assert list(data.image_sizes.items()) == [("set1/0", (9, 12)), ("set1/1", (11, 12)), ("set1/2", (13, 12))]


def test_without_a_store_nothing_is_labelled() -> None:
    labels = torch.cat([batch["labelled"]["label"] for batch in train_batches(at(build()))])
    assert labels.shape == (12, HEIGHT, WIDTH)
    assert bool((labels == 255).all())


def test_source_labels_are_the_truth() -> None:
    data = build(batch_size=3)
    for batch in train_batches(at(data)):
        for index, mask in zip(indices(batch["source"]["image"]), batch["source"]["label"], strict=True):
            np.testing.assert_array_equal(mask.numpy(), data.source.label(index))


def test_all_reads_the_truth_of_the_target() -> None:
    data = build(Pictures(5, kind=1), target_labels="all")
    for batch in train_batches(at(data)):
        for index, mask in zip(indices(batch["target"]["image"]), batch["target"]["label"], strict=True):
            np.testing.assert_array_equal(mask.numpy(), data.target.label(index))


def test_batches_do_not_depend_on_workers_or_ranks() -> None:
    options: dict[str, Any] = {"augment": ["flip", "scale", "color"], "source_size": [10, 14], "seed": 3}
    alone = train_batches(at(build(num_workers=0, batch_size=2, **options)))
    assert same(alone, train_batches(at(build(num_workers=2, batch_size=2, **options))))
    ranks = [train_batches(at(build(batch_size=1, **options), 0, 0, rank, 2)) for rank in range(2)]
    joined = [
        {d: {k: torch.cat([left[d][k], right[d][k]]) for k in ("image", "label")} for d in ("source", "target")}
        for left, right in zip(*ranks, strict=True)
    ]
    assert same(alone, joined)
    assert not same(alone, train_batches(at(build(batch_size=2, **{**options, "seed": 4}))))
    assert alone[0]["source"]["image"].shape == (2, 3, 10, 14)


def test_a_later_stage_continues_the_order_of_the_images() -> None:
    data = build(batch_size=1)
    drawn = [indices(b["source"]["image"])[0] for number in range(3) for b in train_batches(at(data, number))]
    assert [sorted(drawn[k : k + 7]) for k in (0, 7)] == [list(range(7))] * 2


def eval_batches(loader: Any) -> list[Any]:
    return list(loader)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_counts_each_image_once_over_ranks(count: int, num_workers: int) -> None:
    found: Counter[str] = Counter()
    for rank in range(2):
        data = ActiveDataModule(
            Pictures(3), Sealed(3, kind=1), Pictures(count, kind=2), eval_batch_size=2, num_workers=num_workers
        )
        for batch in eval_batches(at(data, 0, 0, rank, 2).val_dataloader()):
            found.update(batch.ids)
            assert batch.indices == indices(batch.image)
            assert batch.ids == [data.target_eval.ids[index] for index in batch.indices]
            for index, label, size in zip(batch.indices, batch.labels, batch.sizes, strict=True):
                np.testing.assert_array_equal(label.numpy(), data.target_eval.label(index))
                assert size == tuple(label.shape)
    assert found == {f"set2/{index}": 1 for index in range(count)}


def test_the_pool_is_scored_without_its_truth_and_unaugmented() -> None:
    data = build(target_size=[18, 24], augment=["flip", "scale", "color"], eval_batch_size=2)
    first, again = eval_batches(data.pool_dataloader()), eval_batches(data.pool_dataloader())
    assert [index for batch in first for index in batch.indices] == list(range(5))
    assert all(batch.labels == [] and set(batch.sizes) == {(HEIGHT, WIDTH)} for batch in first)
    assert all(batch.image.shape[1:] == (3, 18, 24) for batch in first)
    assert all(torch.equal(one.image, other.image) for one, other in zip(first, again, strict=True))


def test_regions_are_made_of_the_images_themselves() -> None:
    data = build(target_size=[18, 24], source_size=[5, 7])
    for loader, dataset in ((data.pool_dataloader, data.target), (data.source_dataloader, data.source)):
        batches = eval_batches(loader(lambda picture, image_id: torch.from_numpy(picture[..., 1].copy())))
        for batch in batches:
            for index, regions in zip(batch.indices, batch.regions, strict=True):
                np.testing.assert_array_equal(regions.numpy(), dataset.image(index)[..., 1])
        assert [index for batch in batches for index in batch.indices] == list(range(len(dataset)))


def test_queried_labels_are_resized_with_their_images(tmp_path: Path) -> None:
    data = build(target_size=[18, 24], source_size=[18, 24])
    with open_store(data, tmp_path) as store:
        query(store, list(data.target.ids), top=1)
        enlarged = expected_mask([1]).repeat(2, axis=0).repeat(2, axis=1)
        for batch in train_batches(at(data, 1, 6, store=store)):
            np.testing.assert_array_equal(batch["target"]["label"].numpy(), [enlarged, enlarged])
            assert batch["target"]["image"].shape == (2, 3, 18, 24)
            for mask in batch["source"]["label"].numpy():
                np.testing.assert_array_equal(mask, mask[::2, ::2].repeat(2, axis=0).repeat(2, axis=1))


def test_evaluation_keeps_each_labels_own_size() -> None:
    data = ActiveDataModule(
        Pictures(2), Sealed(2, kind=1), Pictures(3, kind=2, shift=2), target_size=[8, 8], eval_batch_size=3
    )
    (batch,) = eval_batches(data.test_dataloader())
    assert batch.image.shape == (3, 3, 8, 8)
    assert batch.sizes == [(9, 12), (11, 12), (13, 12)]
    assert [tuple(label.shape) for label in batch.labels] == batch.sizes
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {moved.image.device.type, *(label.device.type for label in moved.labels)} == {"meta"}
    assert (moved.ids, moved.indices, moved.sizes) == (batch.ids, batch.indices, batch.sizes)


def test_mixed_sizes_in_one_batch_name_the_arguments() -> None:
    data = ActiveDataModule(Pictures(4, shift=1), Sealed(4, kind=1), Pictures(3, kind=2, shift=2), eval_batch_size=3)
    for loader in (at(data).train_dataloader(), data.val_dataloader()):
        with pytest.raises(UserError) as caught:
            list(loader)
        line = str(caught.value)
        assert line.startswith("ActiveDataModule: images of ")
        assert "source_size and target_size" in line
        assert "\n" not in line


@pytest.mark.parametrize("num_workers", [0, 1])  # more only cost time: torch waits 5 s for each that has failed
def test_a_fault_in_a_worker_surfaces_as_its_line(num_workers: int) -> None:
    data = build(Broken(3, kind=1), num_workers=num_workers)
    with pytest.raises(UserError) as caught:
        list(data.pool_dataloader())
    assert str(caught.value).splitlines()[-1].endswith("data/1.png: cannot be read; replace or remove it")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "two"}, "batch_size"),
        ({"eval_batch_size": -1}, "eval_batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"num_workers": 0.5}, "num_workers"),
        ({"target_labels": "some"}, "target_labels"),
        ({"source_sampling": "balanced"}, "source_sampling"),
        ({"source_size": [64]}, "source_size"),
        ({"source_size": 64}, "source_size"),
        ({"source_size": "64x64"}, "source_size"),
        ({"target_size": [64, 0]}, "target_size"),
        ({"target_size": [64, 32.5]}, "target_size"),
        ({"augment": ["flop"]}, "augment"),
        ({"augment": "flip"}, "augment"),
    ],
)
def test_mistakes_name_their_argument(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(UserError) as caught:
        build(**options)
    assert str(caught.value).startswith(f"ActiveDataModule: {argument} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("position", ["source", "target_eval"])
def test_other_classes_are_refused(position: str) -> None:
    domains = {"source": Pictures(2), "target": Pictures(2, kind=1), "target_eval": Pictures(2, kind=2)}
    domains[position] = Pictures(2, names=("road", "sky", "car"))
    with pytest.raises(UserError, match=rf"{position} has the classes road, sky, car, but"):
        ActiveDataModule(**domains)


@pytest.mark.parametrize("position", ["source", "target", "target_eval"])
def test_an_empty_domain_is_refused(position: str) -> None:
    domains = {"source": Pictures(2), "target": Pictures(2, kind=1), "target_eval": Pictures(2, kind=2)}
    domains[position] = Pictures(0)
    with pytest.raises(UserError, match=rf"ActiveDataModule: {position} has no images"):
        ActiveDataModule(**domains)


class Watcher(LightningModule):
    """Notes which images each step draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen: list[tuple[int, list[int], list[int]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert batch["labelled"] is batch["target"]
        drawn = [indices(batch[domain]["image"]) for domain in ("source", "target")]
        self.seen.append((self.global_step, *drawn))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Staged(ActiveDataModule):
    """Begins the stage of each epoch itself."""

    def train_dataloader(self) -> Any:
        self.begin_stage(Stage(self.trainer.current_epoch, *STEPS[self.trainer.current_epoch], QueriedLabels(None, 0)))
        return super().train_dataloader()


def fit(folder: Path, checkpoint: str | None = None) -> list[tuple[int, list[int], list[int]]]:
    module, data = Watcher(), Staged(Pictures(7), Sealed(5, kind=1), Pictures(5, kind=2))
    every_step = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=len(STEPS),
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[every_step],
    )
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    return module.seen


@pytest.mark.parametrize("step", [2, 7, 15])
def test_a_checkpoint_within_a_stage_resumes_with_the_next_images(tmp_path: Path, step: int) -> None:
    whole = fit(tmp_path / "whole")
    assert [number for number, _, _ in whole] == list(range(16))
    assert fit(tmp_path / "rest", str(tmp_path / "whole" / f"step={step}.ckpt")) == whole[step:]
