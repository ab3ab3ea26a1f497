"""Pages of the dashboard, one module for each; each has its routes in ROUTES."""
