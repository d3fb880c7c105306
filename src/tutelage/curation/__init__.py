"""Transfer sets selected from large galleries by what resembles the queries."""

from tutelage.curation.dense import query_balanced

__all__ = ["query_balanced"]
