"""The demo: sample photographs, users of its own, and a sheet of the results."""
