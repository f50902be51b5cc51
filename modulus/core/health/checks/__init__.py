"""What may be wrong with a driver, subject by subject: facts in, findings out."""
