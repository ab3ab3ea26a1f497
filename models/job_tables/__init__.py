"""Descriptions of the application's job tables, and the SQL that is rendered from them."""
