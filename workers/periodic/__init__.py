"""Periodic tasks: schedules, ticks, and one module for each task."""
