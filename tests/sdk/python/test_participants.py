"""What a backend relies on when it adds people: the same person twice, retries, tokens and pages."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cloudflare import ConflictError, UnprocessableEntityError

from conftest import ACCOUNT_ID, TOKEN, Room, connect
from shapes import declared_shape


def test_the_same_person_again_is_the_same_participant_with_the_new_details(room: Room) -> None:
    first = room.add(custom_participant_id="twice", name="Before")
    second = room.add(custom_participant_id="twice", name="After", preset_name="group_call_host")
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert (second.name, second.preset_name) == ("After", "group_call_host")


def test_racing_adds_of_one_person_make_one_participant(room: Room) -> None:
    with ThreadPoolExecutor(20) as pool:
        added = pool.map(lambda _: room.add(custom_participant_id="racer").id, range(20))
    assert len(set(added)) == 1


def test_strict_mode_refuses_the_second_add_and_the_sdk_does_not_retry_it(room: Room) -> None:
    strict = {"Parlor-If-Exists": "reject"}
    room.add(strict, custom_participant_id="strict")
    before = len(room.connection.exchanges)
    with pytest.raises(ConflictError) as refused:
        room.add(strict, custom_participant_id="strict")
    assert refused.value.errors[0].code == 409
    assert len(room.connection.exchanges) - before == 1


def test_an_idempotency_key_replays_the_whole_first_answer(room: Room) -> None:
    key = {"Idempotency-Key": "python-replay"}
    first = room.add(key, custom_participant_id="replayed")
    assert room.add(key, custom_participant_id="replayed") == first


def test_an_idempotency_key_refuses_another_body(room: Room) -> None:
    key = {"Idempotency-Key": "python-other-body"}
    room.add(key, custom_participant_id="kept")
    with pytest.raises(UnprocessableEntityError):
        room.add(key, custom_participant_id="changed")


@pytest.mark.parametrize("details", [{}, {"name": None, "picture": None}])
def test_a_participant_needs_no_name(room: Room, details: dict[str, Any]) -> None:
    added = room.add(custom_participant_id=f"nameless-{len(details)}", **details)
    assert (added.name, added.picture) == (None, None)


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    assert "-" not in payload and "_" not in payload, "the web SDK decodes the payload with atob"
    return json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True))


def test_the_token_says_who_may_join_which_meeting_for_100_days(room: Room) -> None:
    added = room.add(custom_participant_id="claims")
    said = claims(added.token)
    presets = room.client.realtime_kit.presets.get(room.app_id, account_id=ACCOUNT_ID, search="group_call_participant")
    assert said["orgId"].replace("-", "") == room.app_id
    assert said["meetingId"] == room.meeting_id
    assert said["participantId"] == added.id
    assert said["presetId"] == presets.data[0].id
    assert said["exp"] - said["iat"] == 8_640_000
    assert abs(said["iat"] - time.time()) < 60


def test_no_payload_needs_the_url_safe_alphabet_whatever_the_ids(room: Room) -> None:
    for number in range(40):
        claims(room.add(custom_participant_id=f"alphabet-{number}").token)


def test_pages_follow_each_other_without_gaps_or_repeats(room: Room) -> None:
    meetings = room.client.realtime_kit.meetings
    meeting_id = meetings.create(room.app_id, account_id=ACCOUNT_ID).data.id
    for number in range(5):
        person = {"custom_participant_id": f"page-{number}", "preset_name": "group_call_guest"}
        meetings.add_participant(meeting_id, **room.scope, **person)
    pages = [meetings.get_meeting_participants(meeting_id, **room.scope, page_no=n, per_page=2) for n in (1, 2, 3)]
    assert [(p.paging.total_count, p.paging.start_offset, p.paging.end_offset) for p in pages] == [
        (5, 1, 2),
        (5, 3, 4),
        (5, 5, 5),
    ]
    assert len({person.id for page in pages for person in page.data}) == 5
    assert meetings.get_meeting_participants(meeting_id, **room.scope, page_no=0, per_page=2) == pages[0]


def test_the_global_key_headers_sign_in_as_well_as_the_bearer_token(room: Room) -> None:
    keyed = connect(api_email="dev@example.com", api_key=TOKEN)
    raw = keyed.client.realtime_kit.meetings.with_raw_response
    declared_shape(raw.get_meeting_participants(room.meeting_id, **room.scope))
    assert len(keyed.exchanges) == 1
