"""Checks a raw reply strictly against the model that the SDK declares for it.

The SDK itself builds its models without checking: a missing field becomes an attribute that is not
there, a number where text is declared stays a number. Pydantic in strict JSON mode forgives neither.
"""

from typing import TypeVar

from cloudflare import BaseModel
from cloudflare._response import APIResponse

T = TypeVar("T")


def declared_shape(response: APIResponse[T]) -> T:
    """The parsed reply of a `with_raw_response` call; fails unless it has the declared shape."""
    parsed = response.parse()
    assert isinstance(parsed, BaseModel), f"the SDK declares no model, but {type(parsed).__name__}"
    type(parsed).model_validate_json(response.text(), strict=True)
    return parsed
