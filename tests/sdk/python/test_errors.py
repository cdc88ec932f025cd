"""What the SDK makes of our errors: its exception class, `errors` filled, and no needless retry."""

from collections.abc import Callable
from typing import Any

import pytest
from cloudflare import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
)

from conftest import ACCOUNT_ID, Room, connect, open_room

NOWHERE = "00000000-0000-7000-8000-000000000000"


def failure(kind: type[APIStatusError], call: Callable[..., object], *args: Any, **options: Any) -> Any:
    """The one entry of `errors` in the exception that this call must raise."""
    with pytest.raises(kind) as raised:
        call(*args, **options)
    assert len(raised.value.errors) == 1, raised.value
    return raised.value.errors[0]


@pytest.mark.parametrize(
    "credentials", [{"api_token": "x" * 40}, {"api_email": "dev@example.com", "api_key": "x" * 40}]
)
def test_wrong_credentials_are_an_authentication_error(credentials: dict[str, str]) -> None:
    stranger = connect(**credentials)
    error = failure(AuthenticationError, stranger.client.realtime_kit.apps.get, account_id=ACCOUNT_ID)
    assert error.code == 10000
    assert len(stranger.exchanges) == 1


def test_another_account_is_a_permission_denied_error(room: Room) -> None:
    apps = room.client.realtime_kit.apps
    error = failure(PermissionDeniedError, apps.get, account_id="0123456789abcdef0123456789abcdef")
    assert error.code == 10000


def test_an_unknown_preset_is_named_in_a_not_found_error(room: Room) -> None:
    error = failure(NotFoundError, room.add, preset_name="nope")
    assert error.message.startswith("No preset found with name nope")
    assert (error.code, error.source.pointer) == (404, "/preset_name")


@pytest.mark.parametrize("missing", ["preset_name", "custom_participant_id"])
def test_a_missing_field_is_a_bad_request_that_points_at_it(room: Room, missing: str) -> None:
    body = {"custom_participant_id": "a", "preset_name": "group_call_host"}
    del body[missing]
    path = f"/accounts/{ACCOUNT_ID}/realtime/kit/{room.app_id}/meetings/{room.meeting_id}/participants"
    error = failure(BadRequestError, room.client.post, path, cast_to=object, body=body)
    assert f'"{missing}" is required' in error.message
    assert (error.code, error.source.pointer) == (400, f"/{missing}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("custom_participant_id", ""),
        ("custom_participant_id", None),
        ("name", 7),
        ("picture", "cat"),
        ("preset_name", ["x"]),
    ],
)
def test_a_wrong_value_is_a_bad_request_that_points_at_it(room: Room, field: str, value: object) -> None:
    assert failure(BadRequestError, room.add, **{field: value}).source.pointer == f"/{field}"


def test_an_unknown_meeting_is_a_not_found_error(room: Room) -> None:
    meetings = room.client.realtime_kit.meetings
    assert failure(NotFoundError, meetings.get_meeting_by_id, NOWHERE, **room.scope).code == 404


def test_a_meeting_of_another_app_is_a_not_found_error(room: Room) -> None:
    other = open_room()
    failure(NotFoundError, room.client.realtime_kit.meetings.get_meeting_by_id, other.meeting_id, **room.scope)


def test_a_meeting_id_that_is_no_uuid_is_a_bad_request(room: Room) -> None:
    meetings = room.client.realtime_kit.meetings
    error = failure(BadRequestError, meetings.get_meeting_by_id, "not-a-uuid", **room.scope)
    assert "must be a valid GUID" in error.message


def test_an_unknown_participant_is_a_not_found_error(room: Room) -> None:
    meetings = room.client.realtime_kit.meetings
    place = {**room.scope, "meeting_id": room.meeting_id}
    for call in (
        meetings.get_meeting_participant,
        meetings.refresh_participant_token,
        meetings.delete_meeting_participant,
    ):
        failure(NotFoundError, call, NOWHERE, **place)


def test_a_taken_preset_name_is_a_conflict_that_the_sdk_sends_once_only(room: Room) -> None:
    presets = room.client.realtime_kit.presets
    first = presets.get(room.app_id, account_id=ACCOUNT_ID).data[0]
    full = presets.get_preset_by_id(first.id, **room.scope).data.to_dict(mode="json")
    body = {key: full[key] for key in ("name", "config", "permissions", "ui")}
    before = len(room.connection.exchanges)
    assert failure(ConflictError, presets.create, room.app_id, account_id=ACCOUNT_ID, **body).code == 409
    assert len(room.connection.exchanges) - before == 1


def test_an_operation_that_is_still_to_come_answers_501_once(room: Room) -> None:
    before = len(room.connection.exchanges)
    livestreams = room.client.realtime_kit.livestreams
    error = failure(InternalServerError, livestreams.get_all_livestreams, room.app_id, account_id=ACCOUNT_ID)
    assert error.code == 501
    assert len(room.connection.exchanges) - before == 1
