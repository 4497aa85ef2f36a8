"""Files that are written whole or not at all, and names that stay inside a folder."""
