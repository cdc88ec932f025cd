"""What the configuration of schemathesis has no word for."""

import schemathesis

# The configuration sets these two whatever was drawn for them.
FIXED = {"account_id", "app_id"}


@schemathesis.hook
def filter_case(context, case):
    """Leaves out requests that only a fixed id would make wrong: on the wire they are right."""
    drawn = case.meta.phase.data if case.meta else None
    return getattr(drawn, "parameter", None) not in FIXED


@schemathesis.hook
def map_case(context, case):
    """Sends no good `Idempotency-Key`: the same few are drawn again and again, and then what is
    answered is the past, as it should be. The server's own tests use them on purpose."""
    if case.meta and case.meta.generation.mode.is_positive and case.headers:
        case.headers.pop("Idempotency-Key", None)
    return case
