"""Adding participants: repeated adds, retries, tokens and pagination."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cloudflare import ConflictError, UnprocessableEntityError

from conftest import ACCOUNT_ID, TOKEN, MeetingFixture, connect
from type_check import check_type


def test_adding_a_participant_again_updates_the_existing_one(meeting: MeetingFixture) -> None:
    first = meeting.add(custom_participant_id="twice", name="Before")
    second = meeting.add(custom_participant_id="twice", name="After", preset_name="group_call_host")
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert (second.name, second.preset_name) == ("After", "group_call_host")


def test_concurrent_adds_of_one_participant_create_one_participant(meeting: MeetingFixture) -> None:
    with ThreadPoolExecutor(20) as pool:
        added = pool.map(lambda _: meeting.add(custom_participant_id="racer").id, range(20))
    assert len(set(added)) == 1


def test_strict_mode_rejects_the_second_add_and_the_sdk_does_not_retry_it(meeting: MeetingFixture) -> None:
    strict = {"Parlor-If-Exists": "reject"}
    meeting.add(strict, custom_participant_id="strict")
    before = len(meeting.connection.exchanges)
    with pytest.raises(ConflictError) as raised:
        meeting.add(strict, custom_participant_id="strict")
    assert raised.value.errors[0].code == 409
    assert len(meeting.connection.exchanges) - before == 1


def test_an_idempotency_key_replays_the_first_response(meeting: MeetingFixture) -> None:
    key = {"Idempotency-Key": "python-replay"}
    first = meeting.add(key, custom_participant_id="replayed")
    assert meeting.add(key, custom_participant_id="replayed") == first


def test_an_idempotency_key_is_rejected_with_another_body(meeting: MeetingFixture) -> None:
    key = {"Idempotency-Key": "python-other-body"}
    meeting.add(key, custom_participant_id="kept")
    with pytest.raises(UnprocessableEntityError):
        meeting.add(key, custom_participant_id="changed")


@pytest.mark.parametrize("details", [{}, {"name": None, "picture": None}])
def test_a_participant_needs_no_name(meeting: MeetingFixture, details: dict[str, Any]) -> None:
    added = meeting.add(custom_participant_id=f"nameless-{len(details)}", **details)
    assert (added.name, added.picture) == (None, None)


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    assert "-" not in payload and "_" not in payload, "the web SDK decodes the payload with atob"
    return json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True))


def test_the_token_names_the_participant_and_the_meeting_and_expires_after_100_days(meeting: MeetingFixture) -> None:
    added = meeting.add(custom_participant_id="claims")
    token = claims(added.token)
    presets = meeting.client.realtime_kit.presets.get(
        meeting.app_id, account_id=ACCOUNT_ID, search="group_call_participant"
    )
    assert token["orgId"].replace("-", "") == meeting.app_id
    assert token["meetingId"] == meeting.meeting_id
    assert token["participantId"] == added.id
    assert token["presetId"] == presets.data[0].id
    assert token["exp"] - token["iat"] == 8_640_000
    assert abs(token["iat"] - time.time()) < 60


def test_payloads_avoid_the_characters_of_the_url_safe_alphabet(meeting: MeetingFixture) -> None:
    for number in range(40):
        claims(meeting.add(custom_participant_id=f"alphabet-{number}").token)


def test_pages_have_no_gaps_and_no_duplicates(meeting: MeetingFixture) -> None:
    meetings = meeting.client.realtime_kit.meetings
    meeting_id = meetings.create(meeting.app_id, account_id=ACCOUNT_ID).data.id
    for number in range(5):
        participant = {"custom_participant_id": f"page-{number}", "preset_name": "group_call_guest"}
        meetings.add_participant(meeting_id, **meeting.scope, **participant)
    pages = [meetings.get_meeting_participants(meeting_id, **meeting.scope, page_no=n, per_page=2) for n in (1, 2, 3)]
    assert [(p.paging.total_count, p.paging.start_offset, p.paging.end_offset) for p in pages] == [
        (5, 1, 2),
        (5, 3, 4),
        (5, 5, 5),
    ]
    assert len({participant.id for page in pages for participant in page.data}) == 5
    assert meetings.get_meeting_participants(meeting_id, **meeting.scope, page_no=0, per_page=2) == pages[0]


def test_the_global_key_headers_authenticate_like_the_bearer_token(meeting: MeetingFixture) -> None:
    keyed = connect(api_email="dev@example.com", api_key=TOKEN)
    raw = keyed.client.realtime_kit.meetings.with_raw_response
    check_type(raw.get_meeting_participants(meeting.meeting_id, **meeting.scope))
    assert len(keyed.exchanges) == 1
