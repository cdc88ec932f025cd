"""Clients of the official SDK for the server under test, and a meeting for each test module."""

import os
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cloudflare import Cloudflare

URL = os.environ["PARLOR_URL"]
ACCOUNT_ID = os.environ["PARLOR_ACCOUNT_ID"]
TOKEN = os.environ["PARLOR_API_TOKEN"]


@dataclass
class Connection:
    """A client of the official SDK, with all its exchanges, including retries."""

    client: Cloudflare
    exchanges: list[tuple[str, str, int]] = field(default_factory=list)


def connect(**credentials: str) -> Connection:
    """Creates a client with these credentials, by default the Bearer token."""
    names = ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL", "CLOUDFLARE_API_USER_SERVICE_KEY")
    assert not any(name in os.environ for name in names), "the SDK would use credentials from the environment"
    exchanges: list[tuple[str, str, int]] = []

    def record(response: httpx.Response) -> None:
        exchanges.append((response.request.method, response.request.url.path, response.status_code))

    client = Cloudflare(
        base_url=f"{URL}/client/v4",
        http_client=httpx.Client(event_hooks={"response": [record]}, timeout=30),
        **(credentials or {"api_token": TOKEN}),
    )
    return Connection(client, exchanges)


def kit_path(*segments: str) -> str:
    """A path below the account, for the operations that the SDK has no method for."""
    return "/".join(["/accounts", ACCOUNT_ID, "realtime/kit", *segments])


@dataclass
class MeetingFixture:
    """A new app with one meeting, so that test modules are isolated from each other."""

    connection: Connection
    app_id: str
    meeting_id: str

    @property
    def client(self) -> Cloudflare:
        return self.connection.client

    @property
    def scope(self) -> dict[str, str]:
        return {"account_id": ACCOUNT_ID, "app_id": self.app_id}

    def add(self, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """Adds a participant and returns `data` of the response."""
        body = {"custom_participant_id": "someone", "preset_name": "group_call_participant", **fields}
        response = self.client.realtime_kit.meetings.add_participant(
            self.meeting_id, **self.scope, **body, extra_headers=headers or {}
        )
        assert response.data is not None
        return response.data


def create_meeting() -> MeetingFixture:
    connection = connect()
    app = connection.client.realtime_kit.apps.post(account_id=ACCOUNT_ID, name="SDK test").data
    assert app is not None and app.app is not None and app.app.id is not None
    meeting = connection.client.realtime_kit.meetings.create(app.app.id, account_id=ACCOUNT_ID).data
    assert meeting is not None
    return MeetingFixture(connection, app.app.id, meeting.id)


@pytest.fixture(scope="module")
def meeting() -> MeetingFixture:
    return create_meeting()
