"""Processes: worker, supervisor, scheduler, what they are composed of and how they are woken."""
