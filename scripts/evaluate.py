"""The same door as ``ripu-evaluate``: python scripts/evaluate.py checkpoint=RUN/checkpoints/last.ckpt."""

from ripu_lightning.cli.evaluate import main

if __name__ == "__main__":
    main()
