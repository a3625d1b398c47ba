"""``ripu-train``: one whole active-learning experiment."""

from omegaconf import DictConfig

from ripu_lightning.cli.app import run


def main() -> None:
    """Console entry point."""
    run("train", _train)


def _train(config: DictConfig) -> None:
    # Only now, with a valid config, is torch worth loading.
    from ripu_lightning.cli.experiment import run_experiment

    run_experiment(config)


if __name__ == "__main__":
    main()
