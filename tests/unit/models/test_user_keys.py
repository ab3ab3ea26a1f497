"""Keys of users: equal ids in two applications get different ones, and each is read as the id again."""

import pytest

from models.queue.user_keys import user_key, user_of_key


@pytest.mark.parametrize("user_id", ["1", "oauth2|5f7c", "Ünïcode id", "a/b", "studio/1", ""])
def test_key_is_read_as_the_id_that_it_was_made_of(user_id: str) -> None:
    types = ("enhance", "studio.modify", "studio.generate", "frames.enhance")
    keys = [user_key(job_type, user_id) for job_type in types]

    assert keys == [user_id, f"studio/{user_id}", f"studio/{user_id}", f"frames/{user_id}"]
    assert [user_of_key(*one) for one in zip(types, keys, strict=True)] == [user_id] * 4


def test_bare_id_that_was_queued_before_there_were_keys_is_read_as_it_is() -> None:
    assert user_of_key("studio.modify", "u1") == "u1"
