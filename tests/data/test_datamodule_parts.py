"""A DataModule without a source, without an evaluation split, or with one domain that the losses look at."""

import pytest

import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.labels import QueriedLabels, Stage


class Unreadable(tiny.Blocks):
    def image(self, index: int):
        raise AssertionError(f"{self.ids[index]} was read")

    label = image


def parts(**changes: object) -> ActiveDataModule:
    datasets = {
        "source": tiny.Blocks("source", 4),
        "target": tiny.Blocks("target!"),
        "target_eval": tiny.Blocks("val", 3),
    }
    data = ActiveDataModule(**{**datasets, **changes}, batch_size=2)
    data.begin_stage(Stage(0, 0, 3, QueriedLabels(None, 0)))
    return data


@pytest.mark.parametrize("domain", ["source", "target"])
def test_only_the_domains_that_are_needed_are_read(domain: str) -> None:
    other = {"source": "target", "target": "source"}[domain]
    data = parts(**{other: Unreadable(other)})
    data.domains = frozenset({domain})
    batches = [batch for batch, _, _ in data.train_dataloader()]
    assert [set(batch) for batch in batches] == [{domain}] * 3
    whole = [batch for batch, _, _ in parts().train_dataloader()]
    assert all((one[domain]["image"] == two[domain]["image"]).all() for one, two in zip(batches, whole, strict=True))


def test_without_a_source() -> None:
    data = parts(source=None)
    data.check()
    assert {name for batch, _, _ in data.train_dataloader() for name in batch} == {"target"}
    with pytest.raises(UserError, match=r"^ActiveDataModule: source is None, but the strategy"):
        data.source_dataloader()


def test_truth_that_was_looked_at_cannot_be_hidden() -> None:
    target = tiny.Blocks("target!")
    target.compares_labels = True
    with pytest.raises(UserError, match=r"Blocks: mismatch is 'skip'"):
        parts(target=target).hide_truth()


def test_labels_are_read_where_they_are_needed() -> None:
    class Sealed(tiny.Blocks):
        def check(self, labels: bool = True) -> None:
            assert not labels, "the truth was opened"

    parts(target=Sealed("target!")).check(truth=False)
    unlabelled = tiny.Blocks("source", 4)
    unlabelled.has_labels = False
    with pytest.raises(UserError, match=r"ActiveDataModule: source has no labels"):
        parts(source=unlabelled).check()
    data = parts(source=unlabelled)
    data.domains = frozenset({"target"})
    data.check()


def test_without_an_evaluation_split() -> None:
    data = parts(target_eval=None)
    data.check()
    assert data.val_dataloader() == data.test_dataloader() == []
