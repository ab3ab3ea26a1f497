"""A running job: from its claim to its recorded end."""
