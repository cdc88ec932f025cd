"""Every operation of apps, meetings, participants and presets, called through the SDK in order.

Replies are held against the models the SDK declares. The last test counts that none was left out.
"""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from cloudflare import NotFoundError

from conftest import ACCOUNT_ID, connect, kit
from shapes import declared_shape

CONNECTION = connect()
CLIENT = CONNECTION.client
APPS = CLIENT.realtime_kit.apps.with_raw_response
MEETINGS = CLIENT.realtime_kit.meetings.with_raw_response
PRESETS = CLIENT.realtime_kit.presets.with_raw_response
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# As `method template status`; below the app where it does not begin with /apps.
OPERATIONS = """
GET /apps 200
POST /apps 200
GET /apps/{app} 200
GET /meetings 200
POST /meetings 201
GET /meetings/{id} 200
PATCH /meetings/{id} 200
PUT /meetings/{id} 200
GET /meetings/{id}/participants 200
POST /meetings/{id}/participants 201
GET /meetings/{id}/participants/{id} 200
PATCH /meetings/{id}/participants/{id} 200
PUT /meetings/{id}/participants/{id} 200
DELETE /meetings/{id}/participants/{id} 200
POST /meetings/{id}/participants/{id}/token 200
GET /presets 200
POST /presets 200
GET /presets/{id} 200
PATCH /presets/{id} 200
PUT /presets/{id} 200
DELETE /presets/{id} 200
"""

made = SimpleNamespace()
"""What earlier tests of this file made: app_id, meeting_id, participant_id, preset_id."""


def scope() -> dict[str, str]:
    return {"account_id": ACCOUNT_ID, "app_id": made.app_id}


def in_meeting() -> dict[str, str]:
    return {**scope(), "meeting_id": made.meeting_id}


def untyped(method: str, path: str, body: object = None) -> Any:
    """A call that the SDK has no method for, signed by the SDK; answers with `data`."""
    call = getattr(CLIENT, method)
    reply = call(path, cast_to=object) if body is None else call(path, cast_to=object, body=body)
    return reply["data"]


def test_an_app_is_created() -> None:
    reply = declared_shape(APPS.post(account_id=ACCOUNT_ID, name="Operations"))
    assert reply.data.app.name == "Operations"
    assert re.fullmatch(r"[0-9a-f]{32}", reply.data.app.id)
    made.app_id = reply.data.app.id


def test_apps_are_listed_newest_first() -> None:
    reply = declared_shape(APPS.get(account_id=ACCOUNT_ID, per_page=1))
    assert [app.id for app in reply.data] == [made.app_id]
    assert (reply.paging.start_offset, reply.paging.end_offset) == (1, 1)


def test_one_app_is_read_by_either_spelling_of_its_id() -> None:
    hyphened = re.sub(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", r"\1-\2-\3-\4-\5", made.app_id)
    for app_id in (made.app_id, hyphened):
        assert untyped("get", kit("apps", app_id))["id"] == made.app_id


def test_an_app_is_renamed() -> None:
    untyped("patch", kit("apps", made.app_id), {"name": "Renamed"})
    assert untyped("get", kit("apps", made.app_id))["name"] == "Renamed"


def test_a_meeting_is_created_with_every_kind_of_setting() -> None:
    reply = declared_shape(
        MEETINGS.create(
            made.app_id,
            account_id=ACCOUNT_ID,
            title="Weekly",
            record_on_start=True,
            persist_chat=True,
            session_keep_alive_time_in_secs=90,
            recording_config={
                "max_seconds": 600,
                "video_config": {"codec": "VP8"},
                "audio_config": {"channel": "mono"},
            },
            ai_config={
                "transcription": {"language": "de", "keywords": ["Parlor"]},
                "summarization": {"word_limit": 200},
            },
        )
    )
    assert UUID.fullmatch(reply.data.id)
    assert (reply.data.title, reply.data.status) == ("Weekly", "ACTIVE")
    assert reply.data.recording_config.video_config.codec == "VP8"
    assert reply.data.ai_config.summarization.word_limit == 200
    made.meeting_id = reply.data.id


def test_meetings_are_listed_and_found() -> None:
    assert declared_shape(MEETINGS.get(made.app_id, account_id=ACCOUNT_ID)).paging.total_count == 1
    found = declared_shape(MEETINGS.get(made.app_id, account_id=ACCOUNT_ID, search="nothing like it"))
    assert found.data == []


def test_one_meeting_is_read() -> None:
    assert declared_shape(MEETINGS.get_meeting_by_id(made.meeting_id, **scope())).data.id == made.meeting_id


def test_a_change_of_a_meeting_leaves_the_rest_as_it_is() -> None:
    reply = declared_shape(MEETINGS.update_meeting_by_id(made.meeting_id, **scope(), status="INACTIVE"))
    assert (reply.data.status, reply.data.title, reply.data.session_keep_alive_time_in_secs) == (
        "INACTIVE",
        "Weekly",
        90,
    )


def test_a_replaced_meeting_falls_back_to_the_defaults() -> None:
    reply = declared_shape(MEETINGS.replace_meeting_by_id(made.meeting_id, **scope(), title="Replaced"))
    assert (reply.data.title, reply.data.persist_chat, reply.data.session_keep_alive_time_in_secs) == (
        "Replaced",
        False,
        60,
    )


def test_a_participant_is_added() -> None:
    person = {"custom_participant_id": "user-1", "preset_name": "group_call_host", "name": "Ada"}
    reply = declared_shape(MEETINGS.add_participant(made.meeting_id, **scope(), **person))
    assert UUID.fullmatch(reply.data.id)
    assert reply.data.token.count(".") == 2
    assert {key: getattr(reply.data, key) for key in person} == person
    made.participant_id = reply.data.id


def test_participants_are_listed() -> None:
    reply = declared_shape(MEETINGS.get_meeting_participants(made.meeting_id, **scope()))
    assert [person.id for person in reply.data] == [made.participant_id]


def test_one_participant_is_read_without_a_token() -> None:
    reply = declared_shape(MEETINGS.get_meeting_participant(made.participant_id, **in_meeting()))
    assert reply.data.name == "Ada"
    assert not hasattr(reply.data, "token")


def test_a_change_of_a_participant_brings_a_new_token() -> None:
    change = {"name": None, "preset_name": "group_call_guest"}
    reply = declared_shape(MEETINGS.edit_participant(made.participant_id, **in_meeting(), **change))
    assert (reply.data.name, reply.data.preset_name) == (None, "group_call_guest")


def test_a_replaced_participant_keeps_its_id() -> None:
    path = kit(made.app_id, "meetings", made.meeting_id, "participants", made.participant_id)
    body = {"custom_participant_id": "user-1", "preset_name": "group_call_host", "name": "Grace"}
    replaced = untyped("put", path, body)
    assert (replaced["id"], replaced["name"]) == (made.participant_id, "Grace")


def test_a_token_is_refreshed() -> None:
    reply = declared_shape(MEETINGS.refresh_participant_token(made.participant_id, **in_meeting()))
    assert reply.data.token.count(".") == 2


def test_a_participant_is_deleted_once() -> None:
    reply = declared_shape(MEETINGS.delete_meeting_participant(made.participant_id, **in_meeting()))
    assert reply.data.custom_participant_id == "user-1"
    with pytest.raises(NotFoundError):
        MEETINGS.delete_meeting_participant(made.participant_id, **in_meeting())


def test_each_of_the_seven_presets_of_a_new_app_is_complete() -> None:
    listed = declared_shape(PRESETS.get(made.app_id, account_id=ACCOUNT_ID, per_page=100)).data
    assert len(listed) == 7
    for preset in listed:
        full = declared_shape(PRESETS.get_preset_by_id(preset.id, **scope())).data
        assert full.permissions.transcription_enabled is True


def host_preset() -> dict[str, Any]:
    """`group_call_host` as the server gives it, ready to be sent back."""
    listed = PRESETS.get(made.app_id, account_id=ACCOUNT_ID, search="group_call_host").parse().data
    full = PRESETS.get_preset_by_id(listed[0].id, **scope()).parse().data.to_dict(mode="json")
    return {key: full[key] for key in ("name", "config", "permissions", "ui")}


def test_a_preset_that_the_server_gave_can_be_sent_back_under_another_name() -> None:
    mine = {**host_preset(), "name": "mine"}
    reply = declared_shape(PRESETS.create(made.app_id, account_id=ACCOUNT_ID, **mine))
    given = reply.data.to_dict(mode="json")
    assert {key: given[key] for key in mine} == mine
    made.preset_id = reply.data.id


def test_a_change_of_a_preset_leaves_the_rest_as_it_is() -> None:
    expected = PRESETS.get_preset_by_id(made.preset_id, **scope()).parse().data.to_dict(mode="json")
    expected["permissions"]["chat"]["public"]["files"] = False
    change = {"chat": {"public": {"files": False}}}
    reply = declared_shape(PRESETS.update(made.preset_id, **scope(), permissions=change))
    given = reply.data.to_dict(mode="json")
    assert given["updated_at"] >= expected.pop("updated_at")
    assert {key: given[key] for key in expected} == expected


def test_a_preset_is_replaced() -> None:
    host = host_preset()
    reply = declared_shape(PRESETS.replace_preset_by_id(made.preset_id, **scope(), **{**host, "name": "mine again"}))
    assert (reply.data.id, reply.data.name) == (made.preset_id, "mine again")
    assert reply.data.permissions.to_dict(mode="json") == host["permissions"]


def test_a_preset_is_deleted_and_the_deleted_one_comes_back() -> None:
    assert declared_shape(PRESETS.delete(made.preset_id, **scope())).data.id == made.preset_id
    with pytest.raises(NotFoundError):
        PRESETS.get_preset_by_id(made.preset_id, **scope())


def test_an_app_is_deleted_with_everything_in_it() -> None:
    CLIENT.delete(kit("apps", made.app_id), cast_to=object)
    with pytest.raises(NotFoundError):
        CLIENT.get(kit("apps", made.app_id), cast_to=object)


def test_every_operation_was_called_and_answered_with_its_own_status() -> None:
    answered = set()
    for method, path, status in CONNECTION.exchanges:
        below = path.split("/realtime/kit")[1]
        below = (
            re.sub(r"^(/apps/).+", r"\1{app}", below) if below.startswith("/apps") else re.sub(r"^/[^/]+", "", below)
        )
        answered.add(f"{method} {re.sub(r'/[0-9a-f-]{36}(?=/|$)', '/{id}', below)} {status}")
    assert set(OPERATIONS.split("\n")) - {""} - answered == set()
