"""Places of a table: a victim under a cell, with all that an outcome depends on but the image."""

from typing import Any, NamedTuple

from jaxdiff.defenses import protocols
from jaxdiff.study.table.cell import Cell
from jaxdiff.study.table.victim import Victim

VOTES = 5  # by which an ensemble on a random victim goes on, unless the cell has a judge


class Place(NamedTuple):
    """The victim of this name, in this column; `attacks` are the names of the cell's, in their order."""

    name: str
    column: str
    victim: Victim
    cell: Cell
    attacks: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What its rows and pictures are found by."""
        return self.name, self.column

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays of all products that it names, by their stages."""
        return self.victim.arrays | self.cell.arrays

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose products it names."""
        return self.victim.needs + self.cell.needs

    @property
    def protocol(self) -> protocols.Protocol | None:
        """Who judges: the cell's own protocol; votes where several attacks go on with what stands of a random victim; or None,
        one draw.
        """
        if self.cell.judge is not None:
            return self.cell.judge()
        return protocols.majority(VOTES) if len(self.attacks) > 1 and self.victim.random else None


Places = list[Place]
