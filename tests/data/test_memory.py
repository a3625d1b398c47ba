"""Training images in memory: the same batches, within the bound, and nothing of data that may change."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.memory import Memory
from ripu_lightning.errors import UserError
from ripu_lightning.labels import QueriedLabels, Stage

SIZE = (512, 640)  # 983,040 bytes an image, 327,680 a mask


def module(*stamps: str | None, **options: Any) -> ActiveDataModule:
    source, target, val = (
        tiny.Stamped(name, length, stamp)
        for name, length, stamp in zip(("source", "target!", "val"), (4, 5, 3), stamps or ("s", "t", "v"), strict=True)
    )
    return ActiveDataModule(source, target, val, batch_size=2, **{"memory": 1, **options})


def batches(data: ActiveDataModule, steps: tuple[int, int] = (0, 6)) -> list[Tensor]:
    data.begin_stage(Stage(0, *steps, QueriedLabels(None, 0)))
    found = [batch for batch, _, _ in data.train_dataloader()]
    parts = [part[key] for batch in found for part in batch.values() for key in ("image", "label")]
    return parts + [batch.image for batch in data.pool_dataloader()]


def opened(data: ActiveDataModule) -> list[tuple[str, int]]:
    return [*data.source.opened, *data.target.opened]


@pytest.mark.parametrize("options", [{}, {"target_labels": "all", "target_size": [30, 20]}, {"source_crop": [9, 9]}])
def test_batches_are_the_same_and_nothing_is_opened_twice(options: dict[str, Any]) -> None:
    plain, held = module(memory=0, augment=["flip", "color"], **options), module(augment=["flip", "color"], **options)
    for steps in ((0, 6), (6, 9)):
        for one, other in zip(batches(plain, steps), batches(held, steps), strict=True):
            assert torch.equal(one, other)
    labels = 5 if options.get("target_labels") == "all" else 0
    assert len(opened(held)) == len(set(held.source.opened)) + len(set(held.target.opened)) == 4 + 4 + 5 + labels
    held.hide_truth()
    assert all(batch.labels == [] for batch in held.pool_dataloader())
    assert len(held.target._dataset.opened) == 5 + labels  # the images are still in memory


def test_workers_share_what_is_in_memory() -> None:
    expected = batches(module(memory=0))
    data = module(num_workers=1)
    data.begin_stage(Stage(0, 0, 1, QueriedLabels(None, 0)))
    data.train_dataloader()
    data.source.closed = data.target.closed = {"image", "label"}
    for one, other in zip(batches(data), expected, strict=True):
        assert torch.equal(one, other)


def test_the_bound_is_kept_and_the_target_comes_first() -> None:
    data = module(target_size=SIZE, source_size=SIZE, memory=7)
    expected = batches(module(target_size=SIZE, source_size=SIZE, memory=0), (0, 2))
    for one, other in zip(batches(data, (0, 2)), expected, strict=True):
        assert torch.equal(one, other)
    sets = data._memory._sets
    assert [sum(np.prod(shape) for _, shape in held.places.values()) for held in sets.values()] == [
        5 * 983040,
        983040 + 327680,
    ]
    assert sum(held.block.numel() for held in sets.values()) <= 7_000_000
    assert list(sets["s", SIZE].places) == [("images", 0), ("labels", 0)]


def test_data_without_a_fingerprint_are_read_each_time() -> None:
    data = module(None, None, None)
    batches(data)
    assert len(data.target.opened) == 12 + 5
    assert len(data.source.opened) == 24


def test_what_is_in_memory_cannot_be_changed_by_its_readers() -> None:
    memory = Memory(1)
    memory.fill("key", [(("images", 3), (2, 2, 3))], lambda kind, index: np.full((2, 2, 3), 7, dtype=np.uint8), 0)
    memory.fill("key", [(("images", 4), (2, 2, 3))], lambda kind, index: pytest.fail("read again"), 0)
    decoded = memory.find("key")
    decoded.read("images", 3)[:] = 0
    np.testing.assert_array_equal(decoded.read("images", 3), np.full((2, 2, 3), 7))
    assert decoded.read("labels", 3) is decoded.read("images", 4) is memory.find("other") is None


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_surfaces_as_its_line(num_workers: int) -> None:
    data = module(num_workers=num_workers)
    data.source.broken = {("label", 2)}
    with pytest.raises(UserError, match=r"^source_2: broken label$"):
        batches(data)


@pytest.mark.parametrize("memory", [-1, 0.5, "all"])
def test_memory_is_a_whole_number(memory: object) -> None:
    with pytest.raises(UserError, match=r"^ActiveDataModule: memory must be a whole number >= 0"):
        module(memory=memory)
