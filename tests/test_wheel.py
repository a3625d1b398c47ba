"""The wheel, installed elsewhere, runs the same commands: its configs are inside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, ROOT], check=True
    )
    wheel = next(folder.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("ripu-train", ["--help"], "strategy: bald, core_set, d2ada, entropy"),
        ("ripu-train", ["experiment=demo", "--cfg", "job"], "domain: target"),
        ("ripu-evaluate", ["--help"], "checkpoint: ???"),
    ],
)
def test_commands_of_the_wheel(site: Path, tmp_path: Path, command: str, arguments: list[str], expected: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, site / "bin" / command, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert expected in done.stdout, done.stderr
    code = "import ripu_lightning.cli.compose as app; print(app.__file__, app.conf_dir())"
    where = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert [path.startswith(str(site)) for path in where.stdout.split()] == [True, True]


def test_a_whole_run_from_the_wheel(site: Path, tmp_path: Path) -> None:
    small = [
        "debug=quick",
        "data.source.length=2",
        "data.target.length=2",
        "data.target_eval.length=2",
        "network.width=4",
    ]
    done = subprocess.run(
        [
            sys.executable,
            site / "bin" / "ripu-train",
            *small,
            "data.target.height=48",
            "data.target.width=64",
            "output=run",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "rounds.csv").is_file()
    report = [sys.executable, site / "bin" / "ripu-report", "run"]
    subprocess.run(report, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, check=True)
    assert "<h1>Which strategy" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
