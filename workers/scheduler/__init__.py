"""The scheduler: bells, rescue, adoption and whatever is due. Any number may run; there is no leader."""
