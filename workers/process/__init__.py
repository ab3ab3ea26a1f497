"""Processes: worker, supervisor and scheduler, how they are composed, and how workers are woken."""
