"""A data set without its labels: all else is there, and the truth is out of reach."""

import numpy as np
import pytest

import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError


class Watched(tiny.Blocks):
    """Notes what is asked of it."""

    checked: bool | None = None

    def check(self, labels: bool = True) -> None:
        self.checked = labels

    def fingerprint(self) -> str:
        return "abc"


def test_everything_but_the_labels() -> None:
    inner = Watched("target!", 3)
    view = Unlabelled(inner)
    assert (view.ids, view.classes, len(view), view.size(2)) == (inner.ids, inner.classes, 3, (24, 32))
    assert np.array_equal(view.image(1), inner.image(1))
    assert view.fingerprint() == "abc"
    assert view.content() is None  # the digest of the whole is not to be kept under its name
    assert not view.has_labels
    view.check()
    assert inner.checked is False
    with pytest.raises(RuntimeError, match="target!_1"):
        view.label(1)


def test_all_labels_of_a_target_without_labels_are_refused() -> None:
    with pytest.raises(UserError, match=r"ActiveDataModule: target_labels is 'all', but target has no") as error:
        ActiveDataModule(tiny.Blocks("a"), Unlabelled(tiny.Blocks("b")), tiny.Blocks("c"), target_labels="all")
    assert "\n" not in str(error.value)
