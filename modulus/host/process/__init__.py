"""Other programs: run, waited for, and left to their end."""
