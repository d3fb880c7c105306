"""A curation as one self-contained HTML page and in the terminal."""
