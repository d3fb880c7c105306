"""One honest table: methods, label counts, transfer sets and seeds on a user's own data."""
