"""Generations on disk: installed, selected, remembered."""
