"""The page as a parser sees it, the files next to it, and text from files that wants to be more than text."""

import csv
import json
import re
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import run_folders
import tiny_run
from PIL import Image
from run_folders import CLASSES, add_pictures, made_run

from ripu_lightning.cli.report import main
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.data_table import Column, DataTable
from ripu_lightning.report.ledger import read_ledger
from ripu_lightning.report.page import gallery
from ripu_lightning.report.page.annotation_cost import AnnotationModel
from ripu_lightning.report.page.gallery import read_picture, run_gallery
from ripu_lightning.report.page.html_page import write_page
from ripu_lightning.report.page.run_folder import read_run
from ripu_lightning.report.results_by_protocol import read_results

HOSTILE = "<script>alert(1)</script>\"'&$\\%_"


class Page(HTMLParser):
    """What a page refers to, its tables as texts, and its headings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.references: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.scripts: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags[tag] += 1
        self.ids |= {found["id"]} if found.get("id") else set()
        self.references += [found[name] or "" for name in ("src", "href", "action", "data", "srcset") if name in found]
        if tag == "img":
            self.images.append(found)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag == "script":
            self.scripts.append("")
        if tag not in {"img", "meta", "link"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside in {"td", "th"}:
            self.tables[-1][-1][-1] += data
        if inside == "script":
            self.scripts[-1] += data
        elif inside != "style":
            self.text += data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies of three seeds, their references, a run between its rounds, and pictures of one."""
    folder = tmp_path_factory.mktemp("sweep")
    for seed in (1, 2, 3):
        made_run(folder / "sweep_1" / f"ripu{seed}", "ripu", seed, 0.5 + seed * 0.005)
        made_run(folder / "sweep_1" / f"random{seed}", "random", seed, 0.42 + seed * 0.004)
        made_run(folder / f"all{seed}", "ripu", seed, 0.55, "all", data__target_labels="all")
        made_run(folder / f"none{seed}", "ripu", seed, 0.21, "none", loss={"source": 1.0})
    made_run(folder / "half", "ripu", 4, 0.3, "unfinished")
    add_pictures(folder / "sweep_1" / "ripu1")
    return folder


@pytest.fixture(scope="module")
def report(sweep: Path) -> Path:
    output = sweep.parent / f"{sweep.name}_report"
    main([str(sweep), "--output", str(output)])
    return output


def test_it_needs_nothing_else_and_is_small_enough_to_be_mailed(report: Path) -> None:
    page = Page(report / "report.html")
    assert (report / "report.html").stat().st_size < 10e6
    anchors = [each for each in page.references if each.startswith("#")]
    assert all(each.startswith(("data:", "#")) for each in page.references)
    assert {each[1:] for each in anchors} <= page.ids
    assert len(anchors) >= 5
    assert page.tags["iframe"] == page.tags["object"] == page.tags["embed"] == 0
    assert not re.search(r"@import|url\(", (report / "report.html").read_text().split("<script")[0])
    assert page.tags["img"] > 10


def test_images_are_pictures_with_words_for_those_who_do_not_see_them(report: Path) -> None:
    for image in Page(report / "report.html").images:
        assert image["alt"]
        kind, content = (image["src"] or "").split(";base64,")
        with Image.open(BytesIO(b64decode(content))) as picture:
            picture.load()
            assert kind == f"data:image/{picture.format.lower()}"


def test_the_answer_comes_first_with_one_table(report: Path) -> None:
    page = Page(report / "report.html")
    start = page.text[: page.text.index("Contents")]
    assert "Use ripu, and label 2.8" in start
    assert "distinguishably better than random" in start
    head, *rows = page.tables[0]
    assert head[:4] == ["method", "labelled, % of the pool's pixels", "mIoU %", "± (95%)"]
    assert len(set(head)) == len(head)  # the CSV is read by these names
    figures = {row[0]: row[2:4] for row in rows}
    assert figures["ripu"] == ["51.0", "1.2"]  # 0.505, 0.51, 0.515: t(2) * 0.005 / sqrt(3)
    assert figures["source only"] == ["21.0", "0.0"]
    assert "left out because they are unfinished, of unknown budget or without mIoU: 1" in page.text


def test_plots_are_there_with_and_without_scripts(report: Path) -> None:
    page = Page(report / "report.html")
    specs = [json.loads(script) for script in page.scripts if script.startswith("{")]
    names = [[trace["name"] for trace in spec["data"] if trace.get("name")] for spec in specs]
    assert names[0] == ["all labels", "source only", "random", "ripu"]
    assert page.tags["noscript"] == len(specs) == 4
    ripu = next(trace for trace in specs[0]["data"] if trace.get("name") == "ripu")
    assert ripu["y"] == pytest.approx([20.0, 35.5, 51.0])


def test_tables_and_figures_lie_beside_it(report: Path) -> None:
    folder = report / "group_1"
    with (folder / "summary.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["ripu"]["mIoU %"]) == pytest.approx(51.0)
    latex = (folder / "summary.tex").read_text()
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1
    assert all(line.count(" & ") == 9 for line in latex.splitlines() if line.endswith(r" \\"))
    lines = [line for line in (folder / "summary.md").read_text().splitlines() if line.startswith("|")]
    assert len({re.sub(r"\\\|", "", line).count("|") for line in lines}) == 1
    figures = ("curves", "class_curves", "class_shares", "overlap")
    for name in figures:
        with Image.open(folder / f"{name}.png") as picture:
            assert np.array(picture.convert("L")).std() > 5
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF-")
    assert {path.stem for path in folder.glob("*.tex")} == {path.stem for path in folder.glob("*.csv")}


def test_costs_are_those_of_the_ledgers(report: Path, sweep: Path) -> None:
    with (report / "group_1" / "costs.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    ledgers = [read_ledger(sweep / "sweep_1" / f"ripu{seed}" / "ledger.json") for seed in (1, 2, 3)]
    clicks = [sum(cost.clicks for cost in ledger.rounds) for ledger in ledgers]
    visits = [sum(cost.images for cost in ledger.rounds) for ledger in ledgers]
    assert float(rows["ripu"]["clicks"]) == pytest.approx(np.mean(clicks))
    seconds = 2.4 * np.array(clicks) + 5 * np.array(visits)
    assert float(rows["ripu"]["hours (estimated)"]) == pytest.approx(seconds.mean() / 3600)
    assert float(rows["all labels"]["hours (estimated)"]) == pytest.approx(5 * 5400 / 3600)
    with (report / "group_1" / "class_shares.csv").open() as file:
        shares = {row["class"]: float(row["ripu"]) for row in csv.DictReader(file)}
    counts = np.array([ledger.class_pixels() for ledger in ledgers])
    parts = 100 * (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    assert list(shares.values()) == pytest.approx(parts.tolist())


def test_the_gallery_tells_why_each_region_was_queried(sweep: Path) -> None:
    (run,) = [read_run(entry) for entry in read_results([sweep / "sweep_1" / "ripu1"])]
    images = run_gallery("ripu", run, 1).images
    assert [title for title, _, _ in images[0].panels] == [
        "queries",
        "image",
        "truth",
        "prediction before any label",
        "prediction after round 2",
        "score for round 2",
        "impurity for round 2",
        "uncertainty for round 2",
    ]
    store = LabelStore.open(sweep / "sweep_1" / "ripu1" / "labels")
    answers = store.answers("target/0", 2)
    mark = images[0].marks[6]  # the first of round 2
    row, column = answers.centres[0]
    pictures = sweep / "sweep_1" / "ripu1" / "pictures" / "round_1" / "target__0"
    impurity = np.array(Image.open(pictures / "impurity.png"))[row, column] / 255 * 0.5
    predicted = CLASSES.names[np.array(Image.open(pictures / "prediction.png"))[row, column]]
    assert mark.why.startswith(f"round 2, query 1 of 6 in this image; score {answers.scores[0]:.4g}; ")
    assert f"; impurity {impurity:.2f}; " in mark.why
    assert f"; predicted: {predicted}; answer: " in mark.why
    assert (mark.left + mark.width / 2, mark.top + mark.height / 2) == (column + 0.5, row + 0.5)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", seed=1)
    made_run(tmp_path / "other", seed=1, miou=0.4, strategy__radius=HOSTILE)
    for name in ("result.json", "config.yaml"):
        path = folder / name
        path.write_text(path.read_text().replace("ripu", json.dumps(HOSTILE)[1:-1] if name[0] == "r" else "ripu"))
    main([str(tmp_path), "--output", str(tmp_path / "report")])
    page = Page(tmp_path / "report" / "report.html")
    assert HOSTILE in page.text
    assert page.tags["script"] == sum(script.startswith("{") for script in page.scripts) + 2
    assert not any(script.startswith("alert") for script in page.scripts)
    latex = (tmp_path / "report" / "group_1" / "summary.tex").read_text()
    assert r"$<$script$>$alert(1)$<$/script$>$" in latex
    assert r"\&\$\textbackslash{}\%\_" in latex
    assert "\\<script\\>" in (tmp_path / "report" / "group_1" / "summary.md").read_text()


def test_a_spreadsheet_runs_nothing() -> None:
    sheet = DataTable("a", "A", "n", [Column("x"), Column("y", 2)], [["=1+1", -0.5], ["b", None]])
    assert sheet.csv().splitlines() == ["x,y", "'=1+1,-0.5", "b,"]
    assert sheet.texts() == [["=1+1", "-0.50"], ["b", "–"]]


@pytest.mark.parametrize("damage", ["text", "link", "palette", "size", "other"])
def test_damaged_pictures_are_reported_and_the_rest_is_shown(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_run(tmp_path / "run")
    add_pictures(folder)
    path = folder / "pictures" / "target__0" / "image.png"
    path.unlink()
    if damage == "text":
        path.write_text("no picture")
    elif damage == "link":
        Image.new("RGB", (48, 32)).save(tmp_path / "secret.png")
        path.symlink_to(tmp_path / "secret.png")
    elif damage == "size":
        monkeypatch.setattr(gallery, "LARGEST_PICTURE", 2**14)
        Image.new("RGB", (480, 320)).save(path)
    else:
        Image.new("P" if damage == "palette" else "I;16", (48, 32)).save(path)
    with pytest.raises(UserError, match=r"image.png: picture cannot be read"):
        read_picture(path, "RGB")
    (run,) = [read_run(entry) for entry in read_results([folder])]
    shown = run_gallery("a", run, 2)
    assert [shot.image_id for shot in shown.images] == ["target/1"]
    assert "image.png: picture cannot be read" in shown.problems[0]
    if damage == "text":
        write_page([run], tmp_path / "report", AnnotationModel())
        assert "image.png: picture cannot be read" in Page(tmp_path / "report" / "report.html").text


def test_groups_are_never_mixed(tmp_path: Path) -> None:
    made_run(tmp_path / "a", seed=1)
    made_run(tmp_path / "b", seed=1, miou=0.9, network__width=16)
    main([str(tmp_path), "--output", str(tmp_path / "report")])
    page = Page(tmp_path / "report" / "report.html")
    assert "There are 2 groups of runs." in page.text
    assert "cannot be compared, as these differ in: network.width." in page.text
    assert all(f"network.width: {width}" in page.text for width in (8, 16))
    assert [len(page.tables[index]) for index in (0, 1)] == [2, 2]
    assert (tmp_path / "report" / "group_2" / "curves.pdf").is_file()


def test_only_evaluations_make_a_page_too(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "result.json").write_bytes((folder / "result.json").read_bytes())
    main([str(tmp_path / "alone"), "--output", str(tmp_path / "report")])
    page = Page(tmp_path / "report" / "report.html")
    assert "No run has a ledger." in page.text
    assert "rounds.csv: missing" in page.text


def test_what_an_earlier_report_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    made_run(tmp_path / "runs" / "a")
    made_run(tmp_path / "runs" / "b", budget__ratio=0.2)
    made_run(tmp_path / "runs" / "c", network__width=16)
    output = tmp_path / "report"
    main([str(tmp_path / "runs"), "--output", str(output)])
    (output / "group_1" / "notes.txt").write_text("mine")
    assert (output / "group_2").is_dir()
    assert (output / "group_1" / "budgets.pdf").is_file()
    main([str(tmp_path / "runs" / "a"), "--output", str(output)])
    assert not list((output / "group_1").glob("budgets.*"))
    assert (output / "group_1" / "curves.pdf").is_file()
    assert (output / "group_1" / "notes.txt").is_file()
    assert not (output / "group_2").exists()


def test_a_label_store_that_cannot_be_read_costs_one_chart(tmp_path: Path) -> None:
    made_run(tmp_path / "a", "ripu")
    folder = made_run(tmp_path / "b", "random")
    runs = [read_run(entry) for entry in read_results([tmp_path])]
    (folder / "labels" / "round_002.parquet").unlink()  # only now, as its answers are read last
    write_page(runs, tmp_path / "report", AnnotationModel())
    page = Page(tmp_path / "report" / "report.html")
    assert re.search(r"There is no overlap of the queried pixels: .*b/labels", page.text)
    assert "By that one, use " in page.text
    assert not (tmp_path / "report" / "group_1" / "overlap.png").exists()
    assert (tmp_path / "report" / "group_1" / "curves.png").is_file()


def test_pools_of_two_sizes_make_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_run(tmp_path / "a", "ripu")
    protocol = {"input_size": list(run_folders.SIZE)}
    for module in (run_folders, tiny_run):
        monkeypatch.setattr(module, "SIZE", (64, 48))
    made_run(tmp_path / "b", "random", protocol=protocol)
    main([str(tmp_path), "--output", str(tmp_path / "report")])
    page = Page(tmp_path / "report" / "report.html")
    assert "the pools are of different sizes" in page.text
    (heat,) = [json.loads(script) for script in page.scripts if script[:1] == "{" and '"heatmap"' in script]
    assert heat["data"][0]["z"] == [[1.0, None], [None, 1.0]]
