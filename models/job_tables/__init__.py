"""The application's job tables: what each is, said once, and the SQL that follows from it."""

from models.job_tables.pictures import ENHANCEMENTS, GENERATIONS
from models.job_tables.registry import JOB_TABLES, table_of
from models.job_tables.table import JobTable

__all__ = ["ENHANCEMENTS", "GENERATIONS", "JOB_TABLES", "JobTable", "table_of"]
