"""The check of declared shapes must itself be able to fail."""

import json

import httpx
import pytest
from cloudflare import Cloudflare
from pydantic import ValidationError

from shapes import declared_shape

GOOD = {
    "id": "a",
    "token": "t",
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
    "custom_participant_id": "p",
    "preset_name": "n",
    "name": None,
    "extra": 1,
}


def answered(data: object) -> object:
    body = json.dumps({"success": True, "data": data})
    reply = httpx.Response(201, content=body, headers={"content-type": "application/json"})
    client = Cloudflare(api_token="t", http_client=httpx.Client(transport=httpx.MockTransport(lambda _: reply)))
    raw = client.realtime_kit.meetings.with_raw_response
    return declared_shape(
        raw.add_participant("m", account_id="a", app_id="b", custom_participant_id="p", preset_name="n")
    )


def test_a_reply_of_the_declared_shape_passes_with_fields_the_sdk_does_not_know() -> None:
    answered(GOOD)


@pytest.mark.parametrize(
    "data",
    [
        {k: v for k, v in GOOD.items() if k != "token"},
        {**GOOD, "id": 7},
        {**GOOD, "name": 7},
        {**GOOD, "preset_name": None},
        {**GOOD, "created_at": "yesterday"},
        [],
    ],
)
def test_a_missing_field_or_another_type_is_seen(data: object) -> None:
    with pytest.raises(ValidationError):
        answered(data)
