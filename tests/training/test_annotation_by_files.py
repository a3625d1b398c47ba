"""Whole runs that are annotated by files, in pieces, against the run with the oracle that was never stopped."""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

import forked
import tiny
from ripu_lightning.acquisition import Budget, Strategy, Superpixel, WholeImage, get_strategy
from ripu_lightning.annotation import Annotator, AnswersPending, FileAnnotator, GroundTruth
from ripu_lightning.data import ActiveDataModule, FolderDataset, SegmentationDataset
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.maintenance import roll_back, skip_images
from ripu_lightning.labels.rejection import reject_answers
from ripu_lightning.report.round_pictures import RoundPictures
from ripu_lightning.training import ActiveLearningLoop, Schedule

CHOICES = {
    "square": (lambda: get_strategy("ripu"), Budget(ratio=0.1, rounds=2)),
    "pixel": (lambda: get_strategy("pixelpick"), Budget(clicks=8, rounds=2)),
    "superpixel": (lambda: get_strategy("d2ada", region_type=Superpixel(20)), Budget(ratio=0.2, per="pool", rounds=2)),
    "image": (lambda: get_strategy("entropy", region_type=WholeImage()), Budget(images=4, per="pool", rounds=2)),
}


class Sealed(tiny.Blocks):
    """A target whose truth nobody may open; its pictures need it, so they are drawn before."""

    def __init__(self, name: str, length: int) -> None:
        super().__init__(name, length)
        open_twin = tiny.Blocks(name, length)
        self._pictures = [open_twin.image(index) for index in range(length)]

    def image(self, index: int) -> np.ndarray:
        return self._pictures[index]

    def label(self, index: int) -> np.ndarray:
        raise AssertionError(f"the truth of {self.ids[index]} was opened")


class Run:
    """One process's part of a run: everything is built anew, as by the same command given again."""

    def __init__(
        self,
        folder: Path,
        choice: str = "square",
        annotator: str = "files",
        target: SegmentationDataset | None = None,
        partial: bool = False,
        extend_pool: bool = False,
    ) -> None:
        self.folder, make = folder, CHOICES[choice][0]
        target = target or (Sealed if annotator == "files" else tiny.Blocks)("target!", 5)
        self.data = ActiveDataModule(
            tiny.Blocks("source", 4), target, tiny.Blocks("val", 3), batch_size=2, eval_batch_size=2
        )
        self.annotator: Annotator = (
            FileAnnotator(target, folder / "annotation", partial) if annotator == "files" else GroundTruth(target)
        )
        strategy: Strategy = make()
        schedule = Schedule(steps=8, first_round=3, interval=2, rounds=2)
        self.loop = ActiveLearningLoop(
            strategy, CHOICES[choice][1], self.annotator, schedule, folder / "labels", extend_pool=extend_pool
        )
        self.module = tiny.module()

    def fit(self, *callbacks: Callback, **options: object) -> Trainer:
        self.loop.check(self.data)
        self.data.check()
        saver = ModelCheckpoint(self.folder / "checkpoints", filename="last", enable_version_counter=False)
        trainer = tiny.trainer(
            self.folder, self.loop, *callbacks, saver, **{"enable_checkpointing": True, "devices": 1, **options}
        )
        last = self.folder / "checkpoints" / "last.ckpt"
        trainer.fit(self.module, datamodule=self.data, ckpt_path=last if last.is_file() else None, weights_only=True)
        return trainer

    @property
    def rounds(self) -> int:
        return len(LabelStore.open(self.folder / "labels").rounds)


def answer(folder: Path, number: int, again: str = "") -> None:
    """What people do: look at the masks, write the truth where it is asked and nonsense elsewhere."""
    folder = folder / "annotation" / f"round_{number:03d}{again}"
    truth = tiny.Blocks("target!", 7)
    for path in sorted((folder / "asked").rglob("*.png")):
        label = truth.label(truth.ids.index(path.stem))
        Image.fromarray(np.where(np.array(Image.open(path)) == 255, label, 99)).save(folder / "answers" / path.name)


def answer_wrongly(folder: Path) -> Path:
    """Another class at every pixel of image 3 in round 1."""
    folder, truth = folder / "annotation" / "round_001", tiny.Blocks("target!", 5)
    asked = np.array(Image.open(folder / "asked" / "target!_3.png")) == 255
    label = truth.label(truth.ids.index("target!_3"))
    Image.fromarray(np.where(asked, (label + 1) % 3, 99).astype(np.uint8)).save(folder / "answers" / "target!_3.png")
    return folder / "answers" / "target!_3.png"


@pytest.mark.parametrize("choice", CHOICES)
def test_in_pieces_equals_the_oracle_in_one_go(tmp_path: Path, choice: str) -> None:
    whole = Run(tmp_path / "oracle", choice, "ground_truth")
    whole.fit()
    for number in (1, 2):
        part = Run(tmp_path / "files", choice)
        trainer = part.fit()
        assert part.rounds == number - 1
        assert trainer.global_step == {1: 3, 2: 5}[number]
        assert part.loop.pending.startswith(f"round {number} waits for answers: ")
        answer(tmp_path / "files", number)
    last = Run(tmp_path / "files", choice)
    last.fit()
    assert last.loop.pending is None
    assert last.loop.history == whole.loop.history
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, last.module.state_dict()[name]), name
    one, other = LabelStore.open(tmp_path / "oracle" / "labels"), LabelStore.open(tmp_path / "files" / "labels")
    assert [entry.annotator for entry in other.rounds] == ["files"] * 2
    for entry, again in zip(one.rounds, other.rounds, strict=True):
        tables = [
            pq.read_table(store.folder / round_.file).drop_columns(["annotator", "time"])
            for store, round_ in ((one, entry), (other, again))
        ]
        assert tables[0].num_rows > 0
        assert tables[0].equals(tables[1])
    assert not list((tmp_path / "files" / "labels").glob("asked*"))


def test_started_again_too_early_nothing_is_lost(tmp_path: Path) -> None:
    Run(tmp_path).fit()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(AnswersPending, match="round 1 waits for answers"):
        Run(tmp_path).fit()
    assert {path: path.read_bytes() for path in before} == before
    answer(tmp_path, 1)
    (wrong,) = (tmp_path / "annotation" / "round_001" / "answers").glob("*_3.png")
    Image.fromarray(np.full((24, 32), 77, dtype=np.uint8)).save(wrong)
    for prepare in (
        lambda run: run.loop.check(run.data),
        lambda run: tiny.trainer(tmp_path, run.loop).fit(run.module, datamodule=run.data),
    ):
        with pytest.raises(UserError, match=r"_3\.png: .*\(77\)"):  # before the fit, and where nobody checked first
            prepare(Run(tmp_path))
        assert Run(tmp_path).rounds == 0
    answer(tmp_path, 1)
    run = Run(tmp_path)
    run.fit()
    assert run.rounds == 1
    assert run.loop.pending.startswith("round 2")


def test_nothing_is_scored_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(tmp_path).fit()
    answer(tmp_path, 1)
    run, scored = Run(tmp_path), []
    monkeypatch.setattr(
        "ripu_lightning.training.loop.select_queries",
        lambda inference, *_: scored.append(inference.round) or [],
    )
    run.fit()
    assert scored == [2]
    assert run.rounds == 2  # nothing was picked, so nobody is waited for


def test_rejected_answers_are_asked_again_and_the_others_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Image 3 of round 1 was answered wrongly, and the run had ended when somebody saw it."""
    Run(tmp_path).fit()
    answer(tmp_path, 1)
    wrong = answer_wrongly(tmp_path)
    Run(tmp_path).fit()
    answer(tmp_path, 2)
    Run(tmp_path).fit()
    store = LabelStore.open(tmp_path / "labels")
    assert len(store.rounds) == 2
    done = reject_answers(tmp_path / "labels", 1, [wrong.stem])
    assert (done.images, done.queries) == (1, len(store.answers(wrong.stem, 1)))
    answer(tmp_path, 1)  # where the old answers are: these are not looked at any more
    with pytest.raises(AnswersPending, match=r"round 1 waits for answers: .* in 1 images.*round_001_2"):
        Run(tmp_path).fit()
    folder = tmp_path / "annotation" / "round_001_2"
    assert [path.stem for path in (folder / "asked").rglob("*.png")] == [wrong.stem]
    answer(tmp_path, 1, "_2")
    capsys.readouterr()
    with pytest.raises(
        UserError, match=r": 1 of the 2 rounds .* are active; remove .*last\.ckpt to train again on these labels"
    ):
        Run(tmp_path).fit()
    kept = store.rounds[0].queries - done.queries
    assert f"round 1: {kept} of {kept + done.queries} queries keep the answers" in capsys.readouterr().out
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    run = Run(tmp_path)
    run.fit()
    found, truth = LabelStore.open(tmp_path / "labels"), tiny.Blocks("target!", 5)
    for index, image_id in enumerate(truth.ids):
        queried = found.query_round(image_id) == 1
        assert np.array_equal(queried, store.query_round(image_id) == 1)
        assert np.array_equal(found.mask(image_id, 1), np.where(queried, truth.label(index), 255))
    assert (run.rounds, run.loop.scored) == (1, 2)  # round 1 was not scored again


def test_partial_answers_and_a_skipped_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Round 1 is answered for images 0 and 1; then image 4 turns out to be useless."""
    run = Run(tmp_path, partial=True)
    run.fit()
    with pytest.raises(AnswersPending, match="5 have no answers yet"):
        Run(tmp_path, partial=True).fit()
    answer(tmp_path, 1)
    for number in (2, 3, 4):
        (tmp_path / "annotation" / "round_001" / "answers" / f"target!_{number}.png").unlink()
    skip_images(tmp_path / "labels", ["target!_4"])
    capsys.readouterr()
    with pytest.warns(
        UserWarning, match=r"round_001: the answers that are there are used .*; 20 regions in 4 images, of which 2 have"
    ):
        Run(tmp_path, partial=True).fit()
    assert "round 1: 10 of 25 queries are answered" in capsys.readouterr().out
    first = LabelStore.open(tmp_path / "labels")
    assert first.queried_images == ("target!_0", "target!_1")
    assert first.available("target!_2").all()
    folder = tmp_path / "annotation" / "round_002" / "asked"
    assert sorted(path.stem for path in folder.iterdir()) == [f"target!_{number}" for number in range(4)]
    answer(tmp_path, 2)
    last = Run(tmp_path)  # without partial: nothing is missing
    last.fit()
    found = LabelStore.open(tmp_path / "labels")
    assert [record.pixels for record in last.loop.history] == [0, first.pixels, found.pixels]
    asked = sum(int((found.query_round(image_id) > 0).sum()) for image_id in found.images)
    assert found.pixels == asked
    assert not (found.query_round("target!_4") > 0).any()


@pytest.mark.parametrize("choice", ["square", "superpixel"])  # a budget of each image, and one of the pool
def test_a_pool_grows_while_a_round_waits(tmp_path: Path, choice: str, capsys: pytest.CaptureFixture[str]) -> None:
    Run(tmp_path, choice).fit()
    answer(tmp_path, 1)
    with pytest.raises(
        UserError,
        match=r"'target!_5' is not there; 2 new\): a run takes new images into its pool with extend_pool=true",
    ):
        Run(tmp_path, choice, target=Sealed("target!", 7)).fit()
    with pytest.raises(UserError, match=r"image 'target!_4' is missing here"):
        Run(tmp_path, choice, target=Sealed("target!", 4), extend_pool=True).fit()
    capsys.readouterr()
    Run(tmp_path, choice, target=Sealed("target!", 7), extend_pool=True).fit()
    assert "2 new images (the first is target!_5) join the pool after round 1 of 2" in capsys.readouterr().out
    before = LabelStore.open(tmp_path / "labels")
    assert (len(before.rounds), len(before.images)) == (1, 7)
    answer(tmp_path, 2)
    last = Run(tmp_path, choice, target=Sealed("target!", 7))  # from now on they belong to the pool
    last.fit()
    store, truth = LabelStore.open(tmp_path / "labels"), tiny.Blocks("target!", 7)
    assert choice == "superpixel" or {"target!_5", "target!_6"} <= set(store.queried_images)
    for index, image_id in enumerate(truth.ids):
        assert np.array_equal(store.query_round(image_id) == 1, before.query_round(image_id) == 1)
        queried = store.query_round(image_id) > 0
        assert np.array_equal(store.mask(image_id), np.where(queried, truth.label(index), 255))
    assert [record.pixels for record in last.loop.history] == [0, before.pixels, store.pixels]
    assert last.loop.history[2].share == store.pixels / (7 * 24 * 32)
    amounts = {"square": 7 * 24 * 32 * 0.05, "superpixel": 7 * 24 * 32 * 0.1}  # half of the budget, of the grown pool
    assert amounts[choice] <= store.rounds[1].pixels < amounts[choice] + 24 * 32  # a region more at most


@pytest.mark.parametrize("corrected", [False, True])
def test_after_a_roll_back_the_files_count(tmp_path: Path, corrected: bool, capsys: pytest.CaptureFixture[str]) -> None:
    Run(tmp_path).fit()
    answer(tmp_path, 1)
    wrong = answer_wrongly(tmp_path)
    Run(tmp_path).fit()
    roll_back(tmp_path / "labels", 0)
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    if corrected:
        answer(tmp_path, 1)
    else:
        wrong.unlink()  # as good as any other way to lose it: the store has it
    capsys.readouterr()
    run = Run(tmp_path)
    run.fit()
    said = capsys.readouterr().out
    found, truth = LabelStore.open(tmp_path / "labels"), tiny.Blocks("target!", 5)
    queried = found.query_round(wrong.stem) == 1
    expected = truth.label(truth.ids.index(wrong.stem))[queried]
    assert np.array_equal(found.mask(wrong.stem, 1)[queried], expected if corrected else (expected + 1) % 3)
    assert f"answers that the annotator has of {5 if corrected else 4} images are read again" in said
    assert ("ripu-labels reject" in said) == (not corrected)


def test_killed_between_asking_and_its_checkpoint(tmp_path: Path) -> None:
    """The stage is trained again, from its start, and not asked again."""
    run = Run(tmp_path)
    run.fit()
    (tmp_path / "checkpoints" / "last.ckpt").unlink()
    answer(tmp_path, 1)
    again = Run(tmp_path)
    again.fit()
    assert again.rounds == 1
    assert again.loop.history[0] == run.loop.history[0]
    assert again.loop.pending.startswith("round 2")


class Garbage(FolderDataset):
    """Notes whether a label was opened, should its bytes not be enough to fail."""

    opened = 0

    def label(self, index: int) -> np.ndarray:
        Garbage.opened += 1
        return super().label(index)


def test_label_files_are_never_opened(tmp_path: Path) -> None:
    blocks = tiny.Blocks("target!", 5)
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").mkdir(parents=True)
    for index, image_id in enumerate(blocks.ids):
        Image.fromarray(blocks.image(index)).save(tmp_path / "images" / "train" / f"{image_id}.png")
        (tmp_path / "labels" / "train" / f"{image_id}.png").write_bytes(b"no picture at all")
    (tmp_path / "classes.yaml").write_text(
        "classes: [{name: road, color: [1, 2, 3]}, {name: sky, color: [4, 5, 6]}, {name: tree, color: [7, 8, 9]}]\n"
    )
    for number in (1, 2, 3):
        target = Garbage(str(tmp_path), "train", str(tmp_path / "classes.yaml"))
        run = Run(tmp_path / "run", target=target)
        run.fit(RoundPictures(tmp_path / "pictures", 1))
        if number < 3:
            answer(tmp_path / "run", number)
    assert run.rounds == 2
    assert Garbage.opened == 0
    found = sorted(path.name for path in (tmp_path / "pictures").rglob("*.png"))
    own = ["image.png", *["impurity.png"] * 2, *["prediction.png"] * 3, *["score.png"] * 2]
    assert found == [*own, *["target!_2.png"] * 3, *["uncertainty.png"] * 2]  # and no truth
    with Image.open(tmp_path / "pictures" / "round_2" / "target!_2.png") as picture:
        assert picture.width == 3 * (768 + 16) + 16
    with pytest.raises(UserError, match="cannot be read as an image"):
        target.label(0)  # the bytes are indeed unreadable


def test_the_oracle_needs_labels(tmp_path: Path) -> None:
    target = Unlabelled(tiny.Blocks("target!", 5))
    with pytest.raises(
        UserError, match="GroundTruth: dataset has no labels to answer from; use FileAnnotator"
    ) as error:
        Run(tmp_path, annotator="ground_truth", target=target).fit()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize("option", ["min_epochs", "min_steps"])
def test_a_trainer_that_could_not_stop_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(UserError, match=r"Trainer: min_epochs"):
        Run(tmp_path).fit(**{option: 2})


TWO_PROCESSES = """
import sys
from pathlib import Path
from test_annotation_by_files import Run, answer
folder = Path(sys.argv[1])
for number in (1, 2, 3):
    Run(folder).fit(devices=2, strategy="ddp_fork")
    assert Run(folder).rounds == number - 1
    if number < 3:
        answer(folder, number)
"""


def test_two_processes_wait_and_go_on(tmp_path: Path) -> None:
    """Both ranks end when rank 0 waits: an epoch more of one of them would hang in its first gradient."""
    # Forked from a process of its own: threads that earlier tests left here might hold locks.
    command = [sys.executable, "-c", TWO_PROCESSES, str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = forked.run(command, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("MEMBER: 2/2") == 3
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 8
