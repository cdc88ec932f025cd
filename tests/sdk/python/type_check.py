"""Checks a raw response strictly against the model that the SDK declares for it.

The SDK itself builds its models without validation: it accepts missing fields and wrong types.
Pydantic rejects both in strict JSON mode.
"""

from typing import TypeVar

from cloudflare import BaseModel
from cloudflare._response import APIResponse

T = TypeVar("T")


def check_type(response: APIResponse[T]) -> T:
    """Parses the response of a `with_raw_response` call, and checks that it has the declared type."""
    parsed = response.parse()
    assert isinstance(parsed, BaseModel), f"the SDK declares no model, but {type(parsed).__name__}"
    type(parsed).model_validate_json(response.text(), strict=True)
    return parsed
