"""How the database comes to be: two branches, `application` for an empty database and `darkroom` for any."""
