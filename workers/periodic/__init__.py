"""Periodic tasks: schedules, ticks, and one file for each task."""
