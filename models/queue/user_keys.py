"""Keys of users: whom the fair order, caps, budgets and the reuse of results take for one user.

Applications give ids to their users by themselves, so two of them may have users with the same id. Everything that is
about a job of one type, as its money is, has the application's own id. Keys are made in SQL, too, by
`darkroom.user_key`.
"""


def user_key(job_type: str, user_id: str) -> str:
    """Return the key of the user of a job: the id for users of `pictures`, and APPLICATION/ID for all others."""
    return f"{_prefix(job_type)}{user_id}"


def user_of_key(job_type: str, key: str) -> str:
    """Return the id that the application of a job's type gave to the user with a key."""
    return key.removeprefix(_prefix(job_type))


def _prefix(job_type: str) -> str:
    application, dot, _ = job_type.partition(".")  # types of `pictures` have none
    return f"{application}/" if dot else ""
