"""Transfer sets selected from large galleries by what resembles the queries."""
