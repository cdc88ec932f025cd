"""The SDK's exceptions for API errors: the class, the `errors` array, and no unnecessary retries."""

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

from conftest import ACCOUNT_ID, MeetingFixture, connect, create_meeting

UNKNOWN_ID = "00000000-0000-7000-8000-000000000000"


def failure(kind: type[APIStatusError], call: Callable[..., object], *args: Any, **options: Any) -> Any:
    """Returns the single entry of `errors` in the exception that this call must raise."""
    with pytest.raises(kind) as raised:
        call(*args, **options)
    assert len(raised.value.errors) == 1, raised.value
    return raised.value.errors[0]


@pytest.mark.parametrize(
    "credentials", [{"api_token": "x" * 40}, {"api_email": "dev@example.com", "api_key": "x" * 40}]
)
def test_wrong_credentials_are_an_authentication_error(credentials: dict[str, str]) -> None:
    connection = connect(**credentials)
    error = failure(AuthenticationError, connection.client.realtime_kit.apps.get, account_id=ACCOUNT_ID)
    assert error.code == 10000
    assert len(connection.exchanges) == 1


def test_another_account_is_a_permission_denied_error(meeting: MeetingFixture) -> None:
    apps = meeting.client.realtime_kit.apps
    error = failure(PermissionDeniedError, apps.get, account_id="0123456789abcdef0123456789abcdef")
    assert error.code == 10000


def test_an_unknown_preset_is_named_in_a_not_found_error(meeting: MeetingFixture) -> None:
    error = failure(NotFoundError, meeting.add, preset_name="nope")
    assert error.message.startswith("No preset found with name nope")
    assert (error.code, error.source.pointer) == (404, "/preset_name")


@pytest.mark.parametrize("missing", ["preset_name", "custom_participant_id"])
def test_a_missing_field_is_a_bad_request_that_points_at_it(meeting: MeetingFixture, missing: str) -> None:
    body = {"custom_participant_id": "a", "preset_name": "group_call_host"}
    del body[missing]
    path = f"/accounts/{ACCOUNT_ID}/realtime/kit/{meeting.app_id}/meetings/{meeting.meeting_id}/participants"
    error = failure(BadRequestError, meeting.client.post, path, cast_to=object, body=body)
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
def test_a_wrong_value_is_a_bad_request_that_points_at_it(meeting: MeetingFixture, field: str, value: object) -> None:
    assert failure(BadRequestError, meeting.add, **{field: value}).source.pointer == f"/{field}"


def test_an_unknown_meeting_is_a_not_found_error(meeting: MeetingFixture) -> None:
    meetings = meeting.client.realtime_kit.meetings
    assert failure(NotFoundError, meetings.get_meeting_by_id, UNKNOWN_ID, **meeting.scope).code == 404


def test_a_meeting_of_another_app_is_a_not_found_error(meeting: MeetingFixture) -> None:
    other = create_meeting()
    failure(NotFoundError, meeting.client.realtime_kit.meetings.get_meeting_by_id, other.meeting_id, **meeting.scope)


def test_a_meeting_id_that_is_not_a_uuid_is_a_bad_request(meeting: MeetingFixture) -> None:
    meetings = meeting.client.realtime_kit.meetings
    error = failure(BadRequestError, meetings.get_meeting_by_id, "not-a-uuid", **meeting.scope)
    assert "must be a valid GUID" in error.message


def test_an_unknown_participant_is_a_not_found_error(meeting: MeetingFixture) -> None:
    meetings = meeting.client.realtime_kit.meetings
    path_ids = {**meeting.scope, "meeting_id": meeting.meeting_id}
    for call in (
        meetings.get_meeting_participant,
        meetings.refresh_participant_token,
        meetings.delete_meeting_participant,
    ):
        failure(NotFoundError, call, UNKNOWN_ID, **path_ids)


def test_a_duplicate_preset_name_is_a_conflict_that_the_sdk_does_not_retry(meeting: MeetingFixture) -> None:
    presets = meeting.client.realtime_kit.presets
    first = presets.get(meeting.app_id, account_id=ACCOUNT_ID).data[0]
    full = presets.get_preset_by_id(first.id, **meeting.scope).data.to_dict(mode="json")
    body = {key: full[key] for key in ("name", "config", "permissions", "ui")}
    before = len(meeting.connection.exchanges)
    assert failure(ConflictError, presets.create, meeting.app_id, account_id=ACCOUNT_ID, **body).code == 409
    assert len(meeting.connection.exchanges) - before == 1


def test_an_operation_that_is_not_implemented_returns_501_and_is_not_retried(meeting: MeetingFixture) -> None:
    before = len(meeting.connection.exchanges)
    livestreams = meeting.client.realtime_kit.livestreams
    error = failure(InternalServerError, livestreams.get_all_livestreams, meeting.app_id, account_id=ACCOUNT_ID)
    assert error.code == 501
    assert len(meeting.connection.exchanges) - before == 1
