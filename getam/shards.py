"""One job of several that share a split's images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count` parts of a job: every count-th image."""

    number: int = 1
    count: int = 1

    def __post_init__(self):
        if not 1 <= self.number <= self.count:
            raise ValueError(f"shard: expected 1/{self.count} to {self.count}/{self.count}, got {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """The ids of this part."""
        return ids[self.number - 1 :: self.count]


WHOLE = Shard()
