"""The same door as ``ripu-train``: python scripts/train.py experiment=demo."""

from ripu_lightning.cli.train import main

if __name__ == "__main__":
    main()
