"""Archives and compression, read within bounds."""
