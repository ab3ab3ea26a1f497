"""The application's job tables: what each is, said once, and the SQL that follows from it."""
