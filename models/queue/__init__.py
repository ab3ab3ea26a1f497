"""The queue: how jobs enter it, wait, are claimed by workers and end, in Python and in SQL functions."""
