"""Running jobs: from the claim to the recorded end."""
