"""Names of the pictures that another application's job works on, in the reason for its end."""

from pipelines.errors import BadImageError
from pipelines.job import OWN_APPLICATION, Job


def name_pictures(error: BadImageError, job: Job) -> None:
    """Let an error about a job's pictures name their keys, because its producer knows them by nothing else.

    An error of a job of `pictures`, whose row has one picture, stays as it is.
    """
    keys = [key for key in (job.input_key, *job.more_keys) if key is not None]
    if job.application != OWN_APPLICATION and keys and not any(key in str(error) for key in keys):
        error.args = (f"{' or '.join(keys)}: {error}",)
