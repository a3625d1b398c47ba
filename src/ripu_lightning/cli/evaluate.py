"""``ripu-evaluate``: IoU table and saved predictions from a checkpoint alone."""

from omegaconf import DictConfig

from ripu_lightning.cli.app import run


def main() -> None:
    """Console entry point."""
    run("evaluate", _evaluate)


def _evaluate(config: DictConfig) -> None:
    from ripu_lightning.cli.evaluation import evaluate_checkpoint

    evaluate_checkpoint(config)


if __name__ == "__main__":
    main()
