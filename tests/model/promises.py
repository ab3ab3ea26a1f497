"""The promises I1 to I7 as functions over states and steps. Each returns what it found broken, or None."""

from collections.abc import Callable

from tests.model.state import CHANGES, COMPLETED, DELETED, LABELS, NEW, OVER, STAGES, State, Step

OPENING_BALANCE = 1


def is_over(s: State) -> bool:
    """Say whether nothing more is owed to a job: it has ended, is gone, or was never accepted."""
    return s.status in OVER or s.status in {NEW, DELETED}


def bounded_attempts(s: State, max_attempts: int) -> str | None:
    """I1, the part of it that a state shows: a job isn't tried for ever. What leads nowhere, the explorer finds."""
    return f"attempt {s.used} of {max_attempts}" if s.used > max_attempts else None


def one_holder(before: State, step: Step) -> str | None:
    """I2: a write with a lost claim changes nothing."""
    if step.writer is None or before.holds(step.writer) or written(before) == written(step.after):
        return None
    return "a write with a lost claim took effect"


def written(s: State) -> tuple[object, ...]:
    """Return all that a claim's write can change."""
    return s.status, s.queue, s.charges, s.refunds, s.balance, s.ledger, s.artifact, s.result


def one_refund(s: State, price: int) -> str | None:
    """I3: at most one charge and one refund, none without the other where one is due."""
    if s.charges > 1 or s.refunds > s.charges:
        return f"{s.charges} charges, {s.refunds} refunds"
    if s.charges == 0 and price > 0 and s.status == COMPLETED:
        return "completed without a charge"
    # what somebody who lives is about to write isn't missing yet
    if s.charges and not s.refunds and s.status in OVER - {COMPLETED} and s.unwritten is None:
        return f"charged, ended as {s.status}, not refunded"
    return None


def kept_picture(s: State) -> str | None:
    """I4: what is completed has its object, and no refund."""
    if s.status != COMPLETED:
        return None
    if s.refunds:
        return "completed and refunded"
    return "completed without its object" if s.result not in {None, "kept"} else None


def final_end(before: State, step: Step) -> str | None:
    """I5: a terminal status never changes, and every change is one of the state machine's."""
    change = (before.status, step.after.status)
    if change[0] == change[1] or NEW in change or DELETED in change or change in CHANGES | LABELS:
        return None
    return f"{change[0]} became {change[1]}"


def bought_once(before: State, step: Step) -> str | None:
    """I6: stages only move forward, none is bought that is finished, and no picture without a reason."""
    if before.queue is not None:
        now = STAGES.index(before.queue.stage)
        if step.buys is not None and STAGES.index(step.buys) < now:
            return f"{step.buys} was finished, and is bought again"
        if step.after.queue is not None and STAGES.index(step.after.queue.stage) < now:
            return f"back to {step.after.queue.stage}"
    return "more answers than 1 + disturbances" if step.after.slack < 0 else None


def exact_balance(s: State) -> str | None:
    """I7: the balance is the opening balance and the ledger, and not below 0."""
    if s.balance < 0 or s.balance != OPENING_BALANCE + s.ledger:
        return f"balance {s.balance}, opening {OPENING_BALANCE}, ledger {s.ledger}"
    return None


def limited_spending(s: State, most_paid: int) -> str | None:
    """I6, by the pipeline's own limit: the intents say how many calls may have been paid."""
    return f"{s.paid} calls may be paid, {most_paid} are allowed" if s.paid > most_paid else None


def one_slot(s: State) -> str | None:
    """The cap: not more than one of the user's jobs can be claimed or runs."""
    is_claimable = s.queue is not None and s.queue.status in {"pending", "processing"}
    return "two jobs of the user have one slot" if is_claimable and s.is_slot_taken else None


def claimable_in_turn(s: State) -> str | None:
    """The fair order: what can be claimed has its tag."""
    is_claimable = s.queue is not None and s.queue.status in {"pending", "processing"}
    return "the job can be claimed without a tag" if is_claimable and s.queue and not s.queue.has_tag else None


def kept_tag(before: State, step: Step) -> str | None:
    """The fair order: a job that has its tag keeps it."""
    if before.queue is None or step.after.queue is None:
        return None
    return "the job's tag was lost" if before.queue.has_tag and not step.after.queue.has_tag else None


StatePromise = Callable[[State], str | None]
StepPromise = Callable[[State, Step], str | None]

STEP_PROMISES: dict[str, StepPromise] = {"I2": one_holder, "I5": final_end, "I6": bought_once, "turns": kept_tag}


def state_promises(price: int, max_attempts: int, most_paid: int) -> list[tuple[str, StatePromise]]:
    """Return what every state must keep, for a machine of this scale."""
    return [
        ("I1", lambda s: bounded_attempts(s, max_attempts)),
        ("I3", lambda s: one_refund(s, price)),
        ("I4", kept_picture),
        ("I6", lambda s: limited_spending(s, most_paid)),
        ("I7", exact_balance),
        ("caps", one_slot),
        ("turns", claimable_in_turn),
    ]
