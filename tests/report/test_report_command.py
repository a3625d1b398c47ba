"""``ripu-report``: figures of different protocols are never in one table, and the legend says what differs."""

import csv
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text
from test_result import CONFIG, FIGURES, LABELLING, PROTOCOL

from ripu_lightning.cli.report import main
from ripu_lightning.errors import InvalidArgument
from ripu_lightning.extras import MissingPackage
from ripu_lightning.report import AnnotationModel, report
from ripu_lightning.report.result import Result, make_result
from ripu_lightning.report.results_by_protocol import StoredResult, print_results, read_results, write_results


def made(name: str = "demo", miou: float = 0.5, budget: dict | None = None, **protocol: object) -> Result:
    protocol = {**PROTOCOL, "subsets": {}, **protocol}
    figures = {"miou_1": 0.125, **FIGURES, "miou": miou, **{f"iou/{name}": 0.25 for name in protocol["classes"]}}
    purchase = {**LABELLING, "budget": {**LABELLING["budget"], **(budget or {})}}
    return make_result({**CONFIG, "name": name}, purchase, protocol, figures)


def printed(*results: Result, width: int = 200) -> tuple[list[list[str]], list[str]]:
    """The cells of the tables, one below the other, and the lines below them."""
    console = Console(file=StringIO(), width=width, force_terminal=True, no_color=True, highlight=False)
    print_results([StoredResult(Path(f"{number}.json"), result) for number, result in enumerate(results)], console)
    lines = [Text.from_ansi(line).plain for line in console.file.getvalue().splitlines()]
    rows = [line.replace("┃", "│").strip("│").split("│") for line in lines if line[:1] in {"│", "┃"}]
    below = [line for line in lines if line[:1].isalpha() and (":" in line or "differ" in line)]
    return [[cell.strip() for cell in row] for row in rows], below


def test_one_protocol_is_one_table() -> None:
    rows, legend = printed(made("first", 0.366), made("second", 0.702))
    start = ["ripu", "ratio 0.05 per image, 2 rounds", "4.90", "3"]
    assert rows == [
        ["run", "strategy", "budget", "% labelled", "seed", "mIoU %"],
        ["first", *start, "36.6"],
        ["second", *start, "70.2"],
    ]
    assert legend == ["protocol: 2 classes; 2 images, data abababab; input 64x96; plain; 32-true"]


@pytest.mark.parametrize(
    ("changes", "differs", "texts"),
    [
        ({"classes": ["road", "car"]}, "classes", ["(road, bus)", "(road, car)"]),
        ({"inference": {"title": "mirrored"}}, "inference", ["; plain", "; mirrored"]),
        ({"data": "cd" * 32}, "data", ["data abababab", "data cdcdcdcd"]),
        ({"data": None}, "data", ["data abababab", "data unknown"]),
        ({"input_size": None}, "input size", ["input 64x96", "input as stored"]),
        ({"images": 3}, "images", ["2 images", "3 images"]),
    ],
)
def test_other_protocols_have_tables_of_their_own(changes: dict, differs: str, texts: list[str]) -> None:
    rows, legend = printed(made("a", 0.3), made("b", 0.4, **changes), made("c", 0.6))
    assert [row[0] for row in rows] == ["run", "a", "c", "run", "b"]
    assert [row[5:] for row in rows] == [["mIoU %"], ["30.0"], ["60.0"], ["mIoU %"], ["40.0"]]
    assert legend[0] == f"figures of different tables cannot be compared, as their protocols differ in: {differs}"
    assert [line[:3] for line in legend[1:]] == ["P1:", "P2:"]
    assert [text in line for text, line in zip(texts, legend[1:], strict=True)] == [True, True]


def test_subset_means_have_columns() -> None:
    rows, legend = printed(made("a", 0.3, subsets={"1": ["bus"]}), made("b", 0.4))
    assert [row[5:] for row in rows] == [["mIoU %", "of 1 %"], ["30.0", "75.0"], ["mIoU %"], ["40.0"]]
    assert "differ in: subsets" in legend[0]
    assert "mean of 1: bus" in legend[1]


def test_the_papers_own_comparison_fits_a_terminal() -> None:
    """GTAV over 19 and 16 classes and SYNTHIA over 16 and 13, in 80 columns: names are broken, never lost."""
    names, subsets = ("gtav_ripu_ra", "synthia_self_training"), {"16": ["bus"], "13": ["bus"]}
    figures = {**FIGURES, "miou_16": 0.25, "miou_13": 0.5}
    results = [
        make_result({**CONFIG, "name": name}, LABELLING, {**PROTOCOL, "subsets": subsets, "images": number}, figures)
        for number, name in enumerate(names)
    ]
    rows, _ = printed(*results, width=80)
    columns = list(zip(*rows, strict=True))
    found = "".join(columns[0])
    assert [found.count(name) for name in names] == [1, 1]
    assert "".join(columns[1]).count("ripu") == 2
    assert [cell for cell in columns[6] if cell] == ["of 16 %", "25.0"] * 2
    assert [cell for cell in columns[7] if cell] == ["of 13 %", "50.0"] * 2


@pytest.mark.parametrize(
    ("budget", "cells"),
    [
        ({"unit": "clicks", "amount": 40, "share": 0.00005}, ["clicks 40 per image, 2 rounds", "0.01"]),
        ({"unit": None, "amount": None, "rounds": 0, "share": 0.0}, ["none", "0.00"]),
        ({"unit": "all", "amount": None, "rounds": 0, "share": 1.0}, ["all labels", "100.00"]),
        ({"pixels": None, "share": None}, ["ratio 0.05 per image, 2 rounds", "–"]),
        ({"rounds_done": 1, "share": 0.02}, ["ratio 0.05 per image, 1 of 2 rounds", "2.00"]),
        ({"rounds": None, "rounds_done": None, "share": None}, ["unknown", "–"]),
    ],
)
def test_budgets_in_words(budget: dict, cells: list[str]) -> None:
    rows, _ = printed(made("[name]", float("nan"), budget))
    assert rows[1] == ["[name]", "ripu", *cells, "3", "–"]


def test_command_reads_files_and_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("one", "two", "three")):
        made(name, 0.1 * (number + 1)).write(tmp_path / "sweep" / str(number))
    made("alone", 0.9, classes=["road", "car"], subsets={"1": ["road"]}).write(tmp_path / "run")
    alone = tmp_path / "run" / "result.json"
    entries = read_results([alone, tmp_path / "sweep", tmp_path])  # each once, however often it is met
    assert [entry.result.name for entry in entries] == ["alone", "one", "two", "three"]
    main(["--output", str(tmp_path / "report"), str(tmp_path)])
    text = capsys.readouterr().out
    assert all(name in text for name in ("one", "two", "three", "alone", "P1: 2 classes (road, car)"))
    with (tmp_path / "report" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["protocol"], float(row["miou"])) for row in rows] == [
        ("alone", "P1", 0.9),
        ("one", "P2", pytest.approx(0.1)),
        ("two", "P2", pytest.approx(0.2)),
        ("three", "P2", pytest.approx(0.3)),
    ]
    figures = [(row["miou_1"], row["iou/car"], row["iou/bus"]) for row in rows[:2]]
    assert figures == [("0.75", "0.25", ""), ("", "", "0.25")]
    assert [(row["unit"], row["share"], row["input_size"]) for row in rows] == [("ratio", "0.049", "64x96")] * 4


def test_results_replace_a_file_in_one_step_and_are_no_formulas(tmp_path: Path) -> None:
    path, kept = tmp_path / "results.csv", tmp_path / "kept.csv"
    path.write_text("an earlier report")
    kept.hardlink_to(path)
    results = {"a.json": made("=cmd|x"), "-1.json": made("@b", classes=["=1", "car"])}
    write_results([StoredResult(Path(name), result) for name, result in results.items()], path)
    assert kept.read_text() == "an earlier report"  # it was not written into
    with path.open(newline="") as file:
        cells = {cell for row in csv.reader(file) for cell in row}
    assert {"'=cmd|x", "'@b", "'-1.json", "0.5"} <= cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made().write(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.json").write_text("no result")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text("{}")
    (tmp_path / "file").touch()
    for arguments, words in [
        ([tmp_path / "none"], "none: No such file"),
        ([tmp_path / "run", tmp_path / "empty"], "no result.json in it"),
        ([tmp_path / "text.json"], "not a complete result file"),
        ([tmp_path / "run", tmp_path / "bad"], "not a complete result file"),
        (["--output", tmp_path / "file", tmp_path / "run"], "cannot write"),
        (["--output", tmp_path / "file" / "deep", tmp_path / "run"], "Not a directory"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert stopped.value.code == 1
        assert output.err.startswith("error: ")
        assert words in output.err
        assert output.err.count("\n") == 1
        assert not output.out


def test_a_bad_result_deep_in_a_sweep_is_reported_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made("good").write(tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "1").mkdir()
    (tmp_path / "sweep" / "1" / "result.json").write_text("{}")
    main(["sweep"])
    output = capsys.readouterr()
    assert output.err.startswith("left out: sweep/1/result.json: not a complete result file")
    assert "good" in output.out
    assert (tmp_path / "report" / "report.html").is_file()  # the default
    (tmp_path / "sweep" / "0" / "result.json").unlink()
    with pytest.raises(SystemExit):
        main(["sweep"])
    assert "error: sweep: no result.json in it can be read" in capsys.readouterr().err


def test_seconds_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("-1", "nan", "ten"):
        with pytest.raises(SystemExit) as stopped:
            main(["--click", text, str(tmp_path)])
        assert stopped.value.code == 2
        assert "--click" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["jinja2", "plotly"])
def test_without_the_pages_packages_tables_are_printed_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    made("good").write(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for arguments, code in ((["run"], 0), (["run", "--output", "page"], 1)):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        output = capsys.readouterr()
        assert stopped.value.code == code
        assert "good" in output.out
        assert output.err == (
            f"no page was written: report.html: package {package} is not installed; "
            "run pip install 'ripu-lightning[report]'\n"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(MissingPackage, match=package):
        report(["run"])


def test_the_function_behind_the_command(tmp_path: Path) -> None:
    made("good").write(tmp_path / "run")
    found = report([tmp_path], tmp_path / "report", AnnotationModel(click=1.0))
    assert [each.result.name for each in found.results] == ["good"]
    assert found.page == tmp_path / "report" / "report.html"
    assert (tmp_path / "report" / "results.csv").is_file()
    with pytest.raises(InvalidArgument, match="AnnotationModel: click must be a number >= 0"):
        AnnotationModel(click=-1)
