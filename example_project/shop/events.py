"""What the shop says to the world: the payloads that are published and that subscribers receive."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OrderPlaced:
    order: int


@dataclass(frozen=True)
class StockChanged:
    product: str
    stock: int


@dataclass(frozen=True)
class Newsletter:
    subject: str


@dataclass(frozen=True)
class SupplyWanted:
    supply: int
