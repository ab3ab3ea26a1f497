"""The stages of a job, one file each."""
