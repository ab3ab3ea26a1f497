"""What stays of jobs: errors, finished pictures, objects."""
