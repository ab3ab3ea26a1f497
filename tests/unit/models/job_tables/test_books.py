"""Which of an application's books a job's end fires."""

from dataclasses import replace

from models.applications.studio.job_table import generations
from models.job_state import JobStatus
from models.job_tables.books import ended_books


def test_book_of_a_shared_label_fires_once():
    table = generations("public")
    assert "generation_cancelled" in ended_books(table).partition("DELETE")[0]

    shared = replace(table, labels={**table.labels, JobStatus.CANCELLED: "failed"})

    on_update, _, on_delete = ended_books(shared).partition("TG_OP = 'DELETE'")
    assert on_update.count("generation_failed") == 1
    assert "generation_cancelled" not in on_update
    assert "generation_cancelled" in on_delete
