"""Tables, the curve and the pictures, read back from what was printed and saved."""

import math
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import CLASSES, SIZE

from ripu_lightning.errors import UserError
from ripu_lightning.report.image_panels import class_panel, draw_panels, image_panel, panel_size, queried_panel
from ripu_lightning.report.matplotlib_charts import chart_file
from ripu_lightning.report.round_pictures import RoundPictures, spread
from ripu_lightning.report.run_files import curve_chart
from ripu_lightning.report.terminal_tables import print_iou, print_rounds
from ripu_lightning.training.history import RoundRecord

NAN = math.nan
COLOURS = np.array(CLASSES.colors)


def record(number, miou, iou=None):
    return RoundRecord(number, 10 * number, number, 65_536_000 * number, 0, 0.0044 * number, miou, iou or {})


def printed(call, *arguments, **options):
    console = Console(file=StringIO(), width=80)
    call(*arguments, console=console, **options)
    return console.file.getvalue()


def cells(text):
    rows = [line.replace("┃", "│") for line in text.splitlines() if line[:1] in {"│", "┃"}]
    return [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]


def test_table_of_rounds_and_start_beside_end():
    text = printed(print_rounds, [record(0, 0.366), record(1, 0.52), record(5, 0.681)])
    assert cells(text) == [
        ["round", "labelled pixels", "% of pixels", "mIoU %"],
        ["0 (source only)", "0", "0.00", "36.6"],
        ["1", "65,536,000", "0.44", "52.0"],
        ["5", "327,680,000", "2.20", "68.1"],
        ["IoU %", "start", "end", "gain"],
        ["mIoU", "36.6", "68.1", "+31.5"],
    ]


def test_table_per_class_with_losses_and_absent_classes():
    history = [record(0, 0.5, {"road": 0.6, "bus": NAN}), record(1, 0.4, {"road": 0.35, "bus": 0.45})]
    rows = cells(printed(print_rounds, history, per_class=True))
    assert rows[-3:] == [
        ["road", "60.0", "35.0", "-25.0"],
        ["bus", "–", "45.0", "–"],
        ["mIoU", "50.0", "40.0", "-10.0"],
    ]


def test_table_of_the_start_alone_has_no_second_part():
    rows = cells(printed(print_rounds, [record(0, NAN)]))
    assert rows[1:] == [["0", "0", "0.00", "–"]]


def test_table_of_an_evaluation():
    rows = cells(printed(print_iou, {"road": 0.912, "bus": NAN, "car": 1.0}, 0.956))
    assert rows == [["class", "IoU %"], ["road", "91.2"], ["bus", "–"], ["car", "100.0"], ["mean", "95.6"]]


def test_tables_are_plain_and_narrow_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    names = {"a class with a name much longer than any line of eighty columns can hold, by far": 0.5, "car": 0.25}
    print_rounds([record(0, 0.1, names), record(1, 0.2, names)], per_class=True)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    figures = [row[1:] for row in cells(text)[-4:] if row[1]]  # the long name may take several lines
    assert figures[-2:] == [["25.0", "25.0", "+0.0"], ["10.0", "20.0", "+10.0"]]
    assert "eighty" in text


def blue_pixels(path):
    pixels = np.array(Image.open(path).convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 2] > 140) & (pixels[..., 0] < 60))
    return rows, columns


@pytest.mark.parametrize(("mious", "falls"), [((0.3, 0.5, 0.7), False), ((0.7, 0.5, 0.3), True)])
def test_curve_goes_where_the_figures_go(tmp_path, mious, falls):
    curve = curve_chart([record(number, miou) for number, miou in enumerate(mious)])
    (tmp_path / "curve.png").write_bytes(chart_file(curve))
    rows, columns = blue_pixels(tmp_path / "curve.png")
    first, last = rows[columns == columns.min()].mean(), rows[columns == columns.max()].mean()
    assert (last > first + 100) == falls  # rows count downwards
    assert (first > last + 100) != falls


@pytest.mark.parametrize(("mious", "drawn"), [((0.4,), True), ((NAN, 0.4, NAN), True), ((NAN, NAN), False)])
def test_curve_of_one_point_and_of_nan(tmp_path, mious, drawn):
    curve = curve_chart([record(number, miou) for number, miou in enumerate(mious)])
    (tmp_path / "curve.png").write_bytes(chart_file(curve))
    assert (len(blue_pixels(tmp_path / "curve.png")[0]) > 20) == drawn


@given(total=st.integers(1, 50), count=st.integers(0, 60))
def test_spread_is_even(total, count):
    chosen = spread(count, total)
    assert len(chosen) == min(count, total)
    assert sorted(set(chosen)) == chosen
    assert set(chosen) <= set(range(total))
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def random_picture(seed, height=8, width=12):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    query_round = rng.choice(np.array([0, 0, 0, 1, 2, 3], dtype=np.uint16), (height, width))
    labels = np.where(query_round > 0, rng.choice(np.array([0, 1, 2, 255], dtype=np.uint8), (height, width)), 255)
    return image, labels.astype(np.uint8), query_round


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), newest=st.integers(1, 4))
def test_queried_pixels_have_their_colours_and_outlines(seed, newest):
    image, labels, query_round = random_picture(seed)
    panel = queried_panel(image, labels, query_round, newest, CLASSES)
    step = panel.shape[0] // image.shape[0]
    middle = panel[step // 2 :: step, step // 2 :: step]
    known = (query_round > 0) & (labels != 255)
    assert (middle[known] == COLOURS[labels[known]]).all()
    assert (middle[(query_round > 0) & (labels == 255)] == 0).all()
    rest = middle[query_round == 0].astype(int)
    assert (np.ptp(rest, axis=1) == 0).all()  # grey
    assert ((rest > 60) & (rest < 200)).all()  # faded: neither black nor white
    left = panel[step // 2 :: step, step - 1 :: step]  # the last column of each pixel, next to its right neighbour
    beside_new = (query_round[:, :-1] == 0) & (query_round[:, 1:] == newest)
    assert (left[:, :-1][beside_new] == 255).all()


def test_small_regions_are_seen_on_large_images():
    image = np.random.default_rng(0).integers(60, 200, (1024, 2048, 3), dtype=np.uint8)
    query_round, labels = np.zeros((1024, 2048), dtype=np.uint16), np.full((1024, 2048), 255, dtype=np.uint8)
    query_round[500:503, 1000:1003], labels[500:503, 1000:1003] = 1, 2
    query_round[0, 2047], labels[0, 2047] = 2, 0
    panel = queried_panel(image, labels, query_round, 2, CLASSES)
    assert panel.shape == (*panel_size(1024, 2048), 3) == (384, 768, 3)
    for class_index, row, column in ((2, 188, 375), (0, 0, 767)):
        rows, columns = np.nonzero((panel == COLOURS[class_index]).all(axis=2))
        assert len(rows) >= 9
        assert abs(rows - row).max() <= 6
        assert abs(columns - column).max() <= 6
    rows, columns = np.nonzero((panel == 255).all(axis=2))
    assert len(rows) > 4
    assert rows.max() < 12
    assert columns.min() > 755


@pytest.mark.parametrize("size", [(32, 48), (300, 90), (50, 900)])
def test_panels_lie_side_by_side_untouched(tmp_path, size):
    image, labels, _ = random_picture(1, *size)
    panels = {"one": image_panel(image), "two": class_panel(labels, CLASSES)}
    draw_panels([panels], CLASSES).savefig(tmp_path / "p.png")
    found = crops(tmp_path / "p.png", size, 2)
    for name, crop in zip(panels, found, strict=True):
        assert np.array_equal(crop, panels[name])


def crops(path, size, count=4):
    """The panels of a saved picture: with 16 pixels between them and 60 pixels of title above."""
    pixels = np.array(Image.open(path).convert("RGB"))
    height, width = panel_size(*size)
    lefts = [16 + position * (width + 16) for position in range(count)]
    return [pixels[60 : 60 + height, left : left + width] for left in lefts]


def test_pictures_of_every_round(tiny_run):
    files = sorted(
        path.relative_to(tiny_run.folder / "pictures").as_posix() for path in tiny_run.folder.rglob("pictures/*/*.png")
    )
    once = [f"target__{index}/{kind}.png" for index in (1, 3) for kind in ("image", "truth")]
    assert files == [*(f"round_{number}/target__{index}.png" for number in (0, 1, 2) for index in (1, 3)), *once]
    assert tiny_run.observer.modes == [(True, True)] * 3


@pytest.mark.parametrize("index", [1, 3])
def test_pictures_show_image_truth_and_prediction(tiny_run, index):
    target = tiny_run.data.target
    image, truth, predicted, _ = crops(tiny_run.folder / f"pictures/round_2/target__{index}.png", SIZE)
    step = image.shape[0] // SIZE[0]
    assert np.array_equal(image[::step, ::step], target.image(index))
    label = target.label(index)
    assert (truth[::step, ::step][label == 255] == 0).all()
    assert np.array_equal(truth[::step, ::step][1:], COLOURS[label[1:]])
    # Nothing was trained after the last picture: the module still predicts the same.
    module = tiny_run.trainer.lightning_module.eval()
    batch = tiny_run.data.pool_dataloader().dataset[index]
    with torch.no_grad():
        logits = module(batch.image).logits
    full = torch.nn.functional.interpolate(logits, SIZE, mode="bilinear", align_corners=True)
    assert np.array_equal(predicted[::step, ::step], COLOURS[full.argmax(1)[0].numpy()])


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_pictures_show_what_was_queried_up_to_then(tiny_run, stage):
    queried = crops(tiny_run.folder / f"pictures/round_{stage}/target__3.png", SIZE)[3]
    step = queried.shape[0] // SIZE[0]
    middle = queried[step // 2 :: step, step // 2 :: step].astype(int)
    query_round, label = tiny_run.store.query_round("target/3"), tiny_run.data.target.label(3)
    shown = (query_round > 0) & (query_round <= stage + 1)
    known = shown & (label != 255)
    assert known.sum() > 20
    assert (middle[known] == COLOURS[label[known]]).all()
    assert (np.ptp(middle[~shown], axis=1) == 0).all()
    assert bool((queried == 255).all(axis=2).any()) == (stage < 2)  # no round follows the last stage: no white outline


def test_pictures_go_to_tensorboard(tiny_run):
    events = EventAccumulator(str(tiny_run.folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    for index in (1, 3):
        images = events.Images(f"pictures/target__{index}")
        assert [image.step for image in images] == [2, 4, 6]
        saved = Image.open(tiny_run.folder / f"pictures/round_0/target__{index}.png")
        assert (images[0].width, images[0].height) == saved.size


def test_pictures_without_the_loop_say_what_is_missing(tmp_path, tiny_run):
    alone = SimpleNamespace(is_global_zero=True, datamodule=tiny_run.data, callbacks=[])
    with pytest.raises(UserError, match="RoundPictures needs an ActiveLearningLoop"):
        RoundPictures(tmp_path).on_train_epoch_end(alone, tiny_run.trainer.lightning_module)


def test_pictures_are_made_on_rank_zero_alone(tmp_path, tiny_run):
    other = SimpleNamespace(is_global_zero=False, datamodule=tiny_run.data)
    RoundPictures(tmp_path / "pictures").on_train_epoch_end(other, tiny_run.trainer.lightning_module)
    assert not list(tmp_path.iterdir())


def test_pictures_refuse_a_negative_count(tmp_path):
    with pytest.raises(UserError, match="RoundPictures: count must be"):
        RoundPictures(tmp_path, count=-1)
