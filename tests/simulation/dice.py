"""Dice that fall the same way again."""

import random
import uuid


def throw_again(seed: int) -> None:
    """Let everything that the program and its tests make up by chance follow from this seed: ids, back-offs, jitter."""
    chance = random.Random(seed)
    random.seed(seed)
    uuid.uuid4 = lambda: uuid.UUID(int=chance.getrandbits(128), version=4)
