"""Processes: worker, supervisor and scheduler, how they are composed, and how they are woken."""
