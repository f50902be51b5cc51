"""Files and folders: written whole or not at all, read without following links, removed."""
