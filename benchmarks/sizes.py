"""How large every case is: as reported, and tiny for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sizes:
    """The defaults are the reported sizes."""

    pixels: int = 473  # a side, ResNet-50 cases; a grid of 60 x 60 cells
    width: int = 256  # channels after down_conv
    batch: int = 4
    shots: int = 5  # of SGC and seed placement, and of the cases named 5shot
    count: int = 5  # N_max
    images: int = 8  # of feature extraction
    lite0_pixels: int = 321
    vit_pixels: int = 196
    parts: tuple[int, int, int] = (300, 400, 153)  # images to train and to test on, pixels a side
    episodes: int = 1000
    steps: int = 60  # of an epoch, as in the study
    monitored: tuple[int, int, int] = (60, 120, 120)  # episodes of train, val, novel, as in the study
    long_repeats: int = 1  # of the cases of minutes
    peaks: int = 1024  # side of the matrices that measure the machine
    growth: Mapping[str, tuple[int, ...]] = field(  # the values of each size whose effect is shown
        default_factory=lambda: {
            "batch": (1, 2, 4, 8),
            "count": (2, 5, 9, 15),
            "grid": (30, 45, 60, 90),
            "shots": (1, 2, 5, 10),
            "images": (1, 4, 8, 16),
        }
    )

    @property
    def grid(self) -> int:
        """Cells a side."""
        return (self.pixels - 1) // 8 + 1


FULL = Sizes()
QUICK = Sizes(
    pixels=65, width=16, batch=2, shots=2, images=2, lite0_pixels=65, vit_pixels=56, parts=(60, 60, 97), episodes=4,
    steps=1, monitored=(2, 2, 2), peaks=64,
    growth={"batch": (1, 2), "count": (2,), "grid": (13,), "shots": (1,), "images": (1, 2)},
)  # fmt: skip
