"""One honest table: methods × labels × transfer sets × seeds on a user's own data."""
