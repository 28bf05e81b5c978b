"""The settings of a campaign: how much is killed, under what load, and where it must end."""

from dataclasses import dataclass
from random import Random

BRIDGE, BROKER, OFD = "bridge", "broker", "ofd"
REGISTER, LINE = "register", "line"
VICTIMS = (BRIDGE, BROKER, OFD, REGISTER, LINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """One campaign. The seed gives receipts, victims and pauses; the machine gives the real moments."""

    kills: int = 300
    """Processes ended by SIGKILL; what befalls the registers and the line to the broker comes on top."""
    seed: int = 1
    terminals: int = 6
    registers: int = 2
    minutes: float = 15.0
    """After so long the killing ends, whatever the count."""
    gap_s: float = 0.35
    """Seconds between two faults, on average, while the bridge is up."""
    unready_share: float = 0.15
    """The share of faults that do not wait until the bridge is up again."""
    calm_s: float = 90.0
    """How long the healed shop may take until every receipt has its end."""
    victims: tuple[str, ...] = VICTIMS
    patient_share: float = 0.4
    """The last part of the kills, for which the broker is spared and no terminal repeats anything."""

    losses: bool = True
    """If set, in the middle the journal is put back to a backup, and then taken away."""

    @property
    def impatient_kills(self) -> int:
        """The kills before that: none where the broker is spared all the time."""
        return round(self.kills * (1 - self.patient_share)) if BROKER in self.victims else 0

    def rng_for(self, who: str) -> Random:
        """Return the random numbers of one who takes part, the same for the same seed."""
        return Random(f"{self.seed}/{who}")

    @property
    def kkts(self) -> tuple[str, ...]:
        """The ids of the registers."""
        return tuple(f"kkt-{number}" for number in range(1, self.registers + 1))

    @property
    def tills(self) -> dict[str, str]:
        """Each terminal's register."""
        return {f"pos-{number}": self.kkts[number % self.registers] for number in range(1, self.terminals + 1)}
