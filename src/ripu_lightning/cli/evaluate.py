"""``ripu-evaluate``: a checkpoint on the target's evaluation split."""

from pathlib import Path

from omegaconf import DictConfig

from ripu_lightning.cli.app import run


def main() -> None:
    """Console entry point."""
    run("evaluate", _evaluate)


def _evaluate(config: DictConfig, folder: Path) -> None:
    from ripu_lightning.experiment.build import path_in
    from ripu_lightning.experiment.evaluate import evaluate
    from ripu_lightning.first_rank import leads
    from ripu_lightning.report.result import NAME, read_result
    from ripu_lightning.report.terminal_tables import print_figures

    keys = ("data", "evaluation", "predictions", "trainer", "trust")
    figures = evaluate(path_in(config, "checkpoint"), folder, **{key: config.get(key) for key in keys})
    if not leads():
        return
    if figures:
        protocol = read_result(folder / NAME).protocol
        title = protocol["inference"]["title"] if protocol else "plain"
        print_figures(figures, "" if title == "plain" else title)
    else:
        print("the data have no labels: nothing is counted, there are predictions only")
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
