"""The applications whose job tables Darkroom drains: the shipped ones, and those that operators describe in files."""
