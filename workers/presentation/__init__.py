"""What the command line and the dashboard both show: sentences about jobs, and rows as JSON."""
