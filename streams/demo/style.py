"""What a drawn product looks like, as a few numbers and names: near styles give near pictures."""

from __future__ import annotations

from dataclasses import dataclass

from streams.demo.canvas import CERAMIC, CLOTH, GLASS, LEATHER, MATTE, METAL, WOOD, Material
from streams.demo.palette import BLACK, BRASS, COLOURS, STEEL, WOODS, Colour
from streams.demo.patterns import Surface

FORMS = 6
"""How many numbers shape a thing."""

MATERIALS: dict[str, Material] = {
    "stoneware": MATTE,
    "porcelain": CERAMIC,
    "glass": GLASS,
    "metal": METAL,
    "leather": LEATHER,
    "canvas": CLOTH,
    "cotton": CLOTH,
    "linen": CLOTH,
    "velvet": Material(0.40, 0.80),
    "wood": WOOD,
}


@dataclass(frozen=True, slots=True)
class Style:
    """Everything that a picture is drawn from.

    `form` are `FORMS` numbers 0..1 that each kind reads in its own way (proportions, handles, necks); `period` is the
    size of the pattern's repeat in units of the picture (which spans 2); `seed` moves what is left to chance: grain,
    folds, where a pattern starts.
    """

    kind: str
    form: tuple[float, ...]
    colour: str
    accent: str
    second: str
    pattern: str
    period: float
    material: str
    scene: str
    tone: int
    seed: int

    @property
    def surface(self) -> Surface:
        """The printed main surface, flat."""
        return Surface(self.base, COLOURS[self.accent], COLOURS[self.second], self.pattern, self.period)

    @property
    def base(self) -> Colour:
        return COLOURS[self.colour]

    @property
    def trim(self) -> Colour:
        return COLOURS[self.accent]

    @property
    def second_colour(self) -> Colour:
        return COLOURS[self.second]

    @property
    def finish(self) -> Material:
        return MATERIALS[self.material]

    @property
    def wood(self) -> Colour:
        """The wood that goes with the style."""
        return WOODS[self.tone % 3]

    @property
    def metal(self) -> Colour:
        return (BRASS, STEEL, BLACK)[self.tone % 3]

    def between(self, number: int, low: float, high: float) -> float:
        """Return the form's number, laid between two bounds."""
        return low + (high - low) * self.form[number]
