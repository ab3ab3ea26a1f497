"""Rows behind periodic tasks: ticks, and what each task writes."""
