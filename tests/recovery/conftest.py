"""The shop of these tests."""

from support.sold_shop import ofd, purge, shop, sold

__all__ = ["ofd", "purge", "shop", "sold"]
