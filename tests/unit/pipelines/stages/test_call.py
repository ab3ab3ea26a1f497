"""What stage CALLING sends that an endpoint recognises a repetition by."""

from config.tiers import Tier
from pipelines.job import Job
from pipelines.options import resolve
from pipelines.prompts import Purpose
from pipelines.stages.call import MAX_KEY_CHARS, idempotency_key


def key_of(job_id: str, job_type: str = "call") -> str:
    job = Job(job_id, job_type, "u", Tier.FREE, None, None, None, resolve({}), purpose=Purpose.ENHANCE)
    return idempotency_key(job)


def test_key_is_ascii_and_another_for_each_type_and_id():
    ids = ["17", "oauth2|5f7c", "Ünïcode id", "a/b", "a%2Fb", "\r\nX: 1", "x" * 300, "x" * 299 + "y", "ü" * 100]
    keys = [key_of(one, kind) for one in ids for kind in ("call", "call2")]

    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and key.isprintable() and " " not in key for key in keys)
    assert max(map(len, keys)) <= MAX_KEY_CHARS
    assert key_of("17") == "call/17"
    assert key_of("Ünïcode id") == "call/%C3%9Cn%C3%AFcode%20id"
