"""The annotation model: what a run's labels cost a person, in seconds, under stated assumptions."""

from dataclasses import dataclass

from ripu_lightning.errors import require_number
from ripu_lightning.report.ledger import Ledger


@dataclass(frozen=True)
class AnnotationModel:
    """Seconds that a person needs: ``whole`` for a whole image, else ``click`` a click, ``visit`` an image and round.

    Attributes:
        click: for one click that names a class. Bearman et al., "What's the Point", ECCV 2016, measured a median of
            2.4 s for the first click on an object of an image.
        visit: to open an image and find its queries. An assumption.
        whole: to label all pixels of one image. Cordts et al., "The Cityscapes Dataset", CVPR 2016, report more than
            1.5 hours for an image of Cityscapes; other images take other times.

    Raises:
        InvalidArgument: a negative number of seconds.
    """

    click: float = 2.4
    visit: float = 5.0
    whole: float = 5400.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            require_number("AnnotationModel", name, seconds)

    def seconds(self, ledger: Ledger) -> float:
        """Of all labels of a run."""
        visits, clicks = ledger.total("images") or 0, ledger.total("clicks") or 0
        return self.whole * visits if ledger.region_type == "image" else self.click * clicks + self.visit * visits

    def text(self) -> str:
        """The model in a sentence."""
        return (
            f"Seconds are estimated, not measured: {self.click:g} s a click (2.4 s is the median for a first click on "
            "an object in Bearman et al., What's the Point, ECCV 2016), "
            f"{self.visit:g} s for each image of a round (an assumption), and {self.whole:g} s for a whole image "
            "(5400 s is the 1.5 hours that Cordts et al., The Cityscapes Dataset, CVPR 2016, report for one of theirs; "
            "smaller images take less)."
        )
