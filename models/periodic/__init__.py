"""Rows of periodic tasks: their ticks, and what each task reads and writes."""
