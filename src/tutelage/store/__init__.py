"""What is computed once: packed images and teacher targets, in shards that are written whole and mapped when read."""
