"""The user as whom PostgreSQL runs: PostgreSQL refuses to run as root, so root starts it with another user's id."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.services.errors import EmbeddedServiceError
from workers.services.server import server_environment

# Users that exist on most systems; none is created.
_CANDIDATES: Final = ("postgres", "nobody")
_PROBE_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class RunAs:
    """Words to put before a command, and the user who then owns the data; None means the current user."""

    prefix: tuple[str, ...] = ()
    owner_id: int | None = None
    group_id: int | None = None

    def take_over(self, folder: Path) -> None:
        """Change the owner of one of our folders and everything in it, if it differs."""
        owner_id, group_id = (
            (self.owner_id, self.group_id) if self.owner_id is not None else (os.geteuid(), os.getegid())
        )
        if folder.stat().st_uid == owner_id:
            return
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.lchown(os.path.join(parent, name), owner_id, group_id or -1)  # noqa: PTH118  (thousands of files)
        os.lchown(folder, owner_id, group_id or -1)  # last: a change that was interrupted is done again


def postgres_user(program: Path, data: Path) -> RunAs:
    """Return a user as whom PostgreSQL works here, found by trying `program --version`.

    An ordinary user: that user. Root: the user who owns the data already, `postgres`, or `nobody`, keeping only the
    right to enter closed folders (root's home, a virtual environment in it), so that no folder's permissions have to be
    widened; if none works, root in a user namespace in which root has another id. PostgreSQL's programs look for each
    other with access(2), which respects that right for another user than root only under `no_setuid_fixup`.

    Raises:
        EmbeddedServiceError: root may do none of this here.
    """
    if os.geteuid() != 0:
        return RunAs()
    for way in (*_as_other_user(data), *_in_user_namespace()):
        if _works(way, program):
            return way
    raise EmbeddedServiceError(
        "the embedded PostgreSQL refuses to run as root, and neither setpriv nor unshare may change the user here; "
        "run darkroom as an ordinary user, or set DATABASE_URL and REDIS_URL"
    )


def _as_other_user(data: Path) -> list[RunAs]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    users: list[tuple[int, int]] = []
    if data.exists() and (owner := data.stat()).st_uid != 0:
        users.append((owner.st_uid, owner.st_gid))
    known = {user.pw_name: user for user in pwd.getpwall()}
    users += [(known[name].pw_uid, known[name].pw_gid) for name in _CANDIDATES if name in known]
    capability = "+dac_override"
    return [
        RunAs(
            (
                setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups",
                f"--inh-caps={capability}", f"--ambient-caps={capability}", "--securebits=+no_setuid_fixup",
            ),
            user,
            group,
        )
        for user, group in users
    ]  # fmt: skip


def _in_user_namespace() -> list[RunAs]:
    unshare = shutil.which("unshare")
    # Outside the namespace it stays root, which owns all the folders, so no owner has to be changed
    return [RunAs((unshare, "--user", "--map-user=65534", "--map-group=65534"))] if unshare else []


def _works(way: RunAs, program: Path) -> bool:
    try:
        probe = subprocess.run(
            [*way.prefix, str(program), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            env=server_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
