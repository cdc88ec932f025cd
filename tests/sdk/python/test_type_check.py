"""Tests that the type check detects wrong responses."""

import json

import httpx
import pytest
from cloudflare import Cloudflare
from pydantic import ValidationError

from type_check import check_type

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


def check(data: object) -> object:
    body = json.dumps({"success": True, "data": data})
    response = httpx.Response(201, content=body, headers={"content-type": "application/json"})
    client = Cloudflare(api_token="t", http_client=httpx.Client(transport=httpx.MockTransport(lambda _: response)))
    raw = client.realtime_kit.meetings.with_raw_response
    return check_type(
        raw.add_participant("m", account_id="a", app_id="b", custom_participant_id="p", preset_name="n")
    )


def test_a_response_of_the_declared_type_passes_with_undeclared_fields() -> None:
    check(GOOD)


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
def test_a_missing_field_or_a_wrong_type_is_detected(data: object) -> None:
    with pytest.raises(ValidationError):
        check(data)
