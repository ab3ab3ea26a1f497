"""The queue: jobs that enter, wait, are held by workers and end, with the SQL of each."""
