"""Applications that operators describe in TOML files: reading, trying and describing."""
