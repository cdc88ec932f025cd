"""Calls every operation of apps, meetings, participants and presets through the SDK, in order.

Responses are checked against the SDK's declared models. The last test checks that no operation is missing.
"""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from cloudflare import NotFoundError

from conftest import ACCOUNT_ID, connect, kit_path
from type_check import check_type

CONNECTION = connect()
CLIENT = CONNECTION.client
APPS = CLIENT.realtime_kit.apps.with_raw_response
MEETINGS = CLIENT.realtime_kit.meetings.with_raw_response
PRESETS = CLIENT.realtime_kit.presets.with_raw_response
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# As `method template status`. Templates that do not start with /apps are below the app.
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

ids = SimpleNamespace()
"""Ids from earlier tests of this module: app_id, meeting_id, participant_id, preset_id."""


def scope() -> dict[str, str]:
    return {"account_id": ACCOUNT_ID, "app_id": ids.app_id}


def in_meeting() -> dict[str, str]:
    return {**scope(), "meeting_id": ids.meeting_id}


def untyped(method: str, path: str, body: object = None) -> Any:
    """Makes a call for which the SDK has no method, and returns `data` of the response."""
    call = getattr(CLIENT, method)
    response = call(path, cast_to=object) if body is None else call(path, cast_to=object, body=body)
    return response["data"]


def test_an_app_is_created() -> None:
    response = check_type(APPS.post(account_id=ACCOUNT_ID, name="Operations"))
    assert response.data.app.name == "Operations"
    assert re.fullmatch(r"[0-9a-f]{32}", response.data.app.id)
    ids.app_id = response.data.app.id


def test_apps_are_listed_newest_first() -> None:
    response = check_type(APPS.get(account_id=ACCOUNT_ID, per_page=1))
    assert [app.id for app in response.data] == [ids.app_id]
    assert (response.paging.start_offset, response.paging.end_offset) == (1, 1)


def test_an_app_is_read_by_its_id_with_or_without_hyphens() -> None:
    hyphened = re.sub(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", r"\1-\2-\3-\4-\5", ids.app_id)
    for app_id in (ids.app_id, hyphened):
        assert untyped("get", kit_path("apps", app_id))["id"] == ids.app_id


def test_an_app_is_renamed() -> None:
    untyped("patch", kit_path("apps", ids.app_id), {"name": "Renamed"})
    assert untyped("get", kit_path("apps", ids.app_id))["name"] == "Renamed"


def test_a_meeting_is_created_with_every_kind_of_setting() -> None:
    response = check_type(
        MEETINGS.create(
            ids.app_id,
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
    assert UUID.fullmatch(response.data.id)
    assert (response.data.title, response.data.status) == ("Weekly", "ACTIVE")
    assert response.data.recording_config.video_config.codec == "VP8"
    assert response.data.ai_config.summarization.word_limit == 200
    ids.meeting_id = response.data.id


def test_meetings_are_listed_and_found() -> None:
    assert check_type(MEETINGS.get(ids.app_id, account_id=ACCOUNT_ID)).paging.total_count == 1
    found = check_type(MEETINGS.get(ids.app_id, account_id=ACCOUNT_ID, search="nothing like it"))
    assert found.data == []


def test_one_meeting_is_read() -> None:
    assert check_type(MEETINGS.get_meeting_by_id(ids.meeting_id, **scope())).data.id == ids.meeting_id


def test_a_change_of_a_meeting_leaves_the_rest_as_it_is() -> None:
    response = check_type(MEETINGS.update_meeting_by_id(ids.meeting_id, **scope(), status="INACTIVE"))
    assert (response.data.status, response.data.title, response.data.session_keep_alive_time_in_secs) == (
        "INACTIVE",
        "Weekly",
        90,
    )


def test_a_replaced_meeting_falls_back_to_the_defaults() -> None:
    response = check_type(MEETINGS.replace_meeting_by_id(ids.meeting_id, **scope(), title="Replaced"))
    assert (response.data.title, response.data.persist_chat, response.data.session_keep_alive_time_in_secs) == (
        "Replaced",
        False,
        60,
    )


def test_a_participant_is_added() -> None:
    participant = {"custom_participant_id": "user-1", "preset_name": "group_call_host", "name": "Ada"}
    response = check_type(MEETINGS.add_participant(ids.meeting_id, **scope(), **participant))
    assert UUID.fullmatch(response.data.id)
    assert response.data.token.count(".") == 2
    assert {key: getattr(response.data, key) for key in participant} == participant
    ids.participant_id = response.data.id


def test_participants_are_listed() -> None:
    response = check_type(MEETINGS.get_meeting_participants(ids.meeting_id, **scope()))
    assert [participant.id for participant in response.data] == [ids.participant_id]


def test_one_participant_is_read_without_a_token() -> None:
    response = check_type(MEETINGS.get_meeting_participant(ids.participant_id, **in_meeting()))
    assert response.data.name == "Ada"
    assert not hasattr(response.data, "token")


def test_a_patch_of_a_participant_changes_its_fields() -> None:
    change = {"name": None, "preset_name": "group_call_guest"}
    response = check_type(MEETINGS.edit_participant(ids.participant_id, **in_meeting(), **change))
    assert (response.data.name, response.data.preset_name) == (None, "group_call_guest")


def test_a_replaced_participant_keeps_its_id() -> None:
    path = kit_path(ids.app_id, "meetings", ids.meeting_id, "participants", ids.participant_id)
    body = {"custom_participant_id": "user-1", "preset_name": "group_call_host", "name": "Grace"}
    replaced = untyped("put", path, body)
    assert (replaced["id"], replaced["name"]) == (ids.participant_id, "Grace")


def test_a_token_is_refreshed() -> None:
    response = check_type(MEETINGS.refresh_participant_token(ids.participant_id, **in_meeting()))
    assert response.data.token.count(".") == 2


def test_a_participant_is_deleted_once() -> None:
    response = check_type(MEETINGS.delete_meeting_participant(ids.participant_id, **in_meeting()))
    assert response.data.custom_participant_id == "user-1"
    with pytest.raises(NotFoundError):
        MEETINGS.delete_meeting_participant(ids.participant_id, **in_meeting())


def test_each_of_the_seven_presets_of_a_new_app_is_complete() -> None:
    listed = check_type(PRESETS.get(ids.app_id, account_id=ACCOUNT_ID, per_page=100)).data
    assert len(listed) == 7
    for preset in listed:
        full = check_type(PRESETS.get_preset_by_id(preset.id, **scope())).data
        assert full.permissions.transcription_enabled is True


def host_preset() -> dict[str, Any]:
    """Returns the fields of the preset `group_call_host`, as the body of a request."""
    listed = PRESETS.get(ids.app_id, account_id=ACCOUNT_ID, search="group_call_host").parse().data
    full = PRESETS.get_preset_by_id(listed[0].id, **scope()).parse().data.to_dict(mode="json")
    return {key: full[key] for key in ("name", "config", "permissions", "ui")}


def test_a_preset_from_a_response_can_be_created_under_another_name() -> None:
    mine = {**host_preset(), "name": "mine"}
    response = check_type(PRESETS.create(ids.app_id, account_id=ACCOUNT_ID, **mine))
    returned = response.data.to_dict(mode="json")
    assert {key: returned[key] for key in mine} == mine
    ids.preset_id = response.data.id


def test_a_patch_of_a_preset_keeps_the_other_fields() -> None:
    expected = PRESETS.get_preset_by_id(ids.preset_id, **scope()).parse().data.to_dict(mode="json")
    expected["permissions"]["chat"]["public"]["files"] = False
    change = {"chat": {"public": {"files": False}}}
    response = check_type(PRESETS.update(ids.preset_id, **scope(), permissions=change))
    returned = response.data.to_dict(mode="json")
    assert returned["updated_at"] >= expected.pop("updated_at")
    assert {key: returned[key] for key in expected} == expected


def test_a_preset_is_replaced() -> None:
    host = host_preset()
    response = check_type(PRESETS.replace_preset_by_id(ids.preset_id, **scope(), **{**host, "name": "mine again"}))
    assert (response.data.id, response.data.name) == (ids.preset_id, "mine again")
    assert response.data.permissions.to_dict(mode="json") == host["permissions"]


def test_a_preset_is_deleted_and_the_response_contains_it() -> None:
    assert check_type(PRESETS.delete(ids.preset_id, **scope())).data.id == ids.preset_id
    with pytest.raises(NotFoundError):
        PRESETS.get_preset_by_id(ids.preset_id, **scope())


def test_an_app_is_deleted_with_everything_in_it() -> None:
    CLIENT.delete(kit_path("apps", ids.app_id), cast_to=object)
    with pytest.raises(NotFoundError):
        CLIENT.get(kit_path("apps", ids.app_id), cast_to=object)


def test_every_operation_was_called_and_returned_its_expected_status() -> None:
    completed = set()
    for method, path, status in CONNECTION.exchanges:
        below = path.split("/realtime/kit")[1]
        below = (
            re.sub(r"^(/apps/).+", r"\1{app}", below) if below.startswith("/apps") else re.sub(r"^/[^/]+", "", below)
        )
        completed.add(f"{method} {re.sub(r'/[0-9a-f-]{36}(?=/|$)', '/{id}', below)} {status}")
    assert set(OPERATIONS.split("\n")) - {""} - completed == set()
