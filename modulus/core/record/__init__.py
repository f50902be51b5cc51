"""Records: the forms of their values, and the JSON they are written in."""
