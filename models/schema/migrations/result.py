"""The result of an upgrade."""

from dataclasses import dataclass

from models.schema.migrations.installation import Mode


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """What an upgrade found, and what it did.

    Attributes:
        is_adopted: whether another tool made the application's tables, so that only Darkroom's own schema was applied.
        applied: revisions applied by this call, oldest first; empty if the database was at the newest.
        mode: the mode of money that is recorded now.
        mode_before: the mode that was recorded before this call; None at the first upgrade.
        opening_balances: how many opening balances were recorded by this call.
        sequences: sequences that this call moved past the ids in their tables.
        replaced: functions, views, triggers and parts of tables that this call made or dropped, by their labels.
        producers: roles that may submit by a grant of `db upgrade`.
        readers: roles that may poll by one.
        still_callable: functions that the role of `revoke_role` may call all the same.
    """

    is_adopted: bool
    applied: tuple[str, ...]
    mode: Mode
    mode_before: Mode | None
    opening_balances: int
    sequences: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    producers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    still_callable: tuple[str, ...] = ()
