//! A test meeting, its participants, and its records in the REST API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::ChatMessage;
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToPeersRequest, SendChatMessageToPeersResponse, SendChatMessageToRoomRequest,
    SendChatMessageToRoomResponse,
};
use parlor_testkit::signal::{self, Closed, Identity, Peer};
use parlor_testkit::{Client, HttpResponse};
use serde_json::{Value, json};

use crate::signalling::server::Server;

/// A meeting created by a test.
pub(crate) struct Meeting {
    client: Client,
    /// The path of the app in the REST API.
    pub(crate) app: String,
    /// The id of the meeting.
    pub(crate) id: String,
    address: SocketAddr,
    /// Number of participants added so far.
    added: AtomicU32,
}

impl Meeting {
    /// Creates a meeting in an app.
    pub(crate) async fn create(server: &Server, app: String, settings: Value) -> Self {
        let client = server.client();
        let created = client.post(&format!("{app}/meetings"), &settings).await;
        let created = created.unwrap().expect(201).unwrap();
        Self {
            client,
            app,
            id: created["id"].as_str().unwrap().to_owned(),
            address: signal::address_of(server.origin()).unwrap(),
            added: AtomicU32::new(0),
        }
    }

    /// Returns the same meeting on its restarted server.
    pub(crate) fn after_restart(mut self, server: &Server) -> Self {
        self.client = server.client();
        self.address = signal::address_of(server.origin()).unwrap();
        self
    }

    /// Returns the identity of an existing participant with the current address of the server.
    pub(crate) fn at_current_address(&self, identity: &Identity) -> Identity {
        Identity {
            server: self.address,
            ..identity.clone()
        }
    }

    /// Returns the path of a resource of this meeting.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}/meetings/{}{rest}", self.app, self.id)
    }

    pub(crate) async fn get(&self, path: &str) -> HttpResponse {
        self.client.get(path).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> HttpResponse {
        self.client.post(path, body).await.unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> HttpResponse {
        self.client.patch(path, body).await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> HttpResponse {
        self.client.delete(path).await.unwrap()
    }

    /// Adds a participant with these fields in the body of the request.
    pub(crate) async fn add(&self, mut participant: Value) -> Identity {
        let number = self.added.fetch_add(1, Ordering::Relaxed);
        let custom_id = format!("person-{number}");
        participant["custom_participant_id"] = json!(custom_id);
        let added = self.post(&self.path("/participants"), &participant).await;
        let added = added.expect(201).unwrap();
        let text = |name: &str| added[name].as_str().unwrap_or_default().to_owned();
        Identity {
            server: self.address,
            meeting: self.id.clone(),
            peer: signal::new_peer_id(),
            participant: text("id"),
            custom_id,
            name: text("name"),
            token: text("token"),
            requests_waiting_room: false,
        }
    }

    /// Adds a participant with a preset of the app.
    pub(crate) async fn add_with_preset(&self, preset: &str) -> Identity {
        let number = self.added.load(Ordering::Relaxed);
        let name = format!("Person {number}");
        let requests_waiting_room =
            ["group_call_host", "webinar_presenter", "livestream_host"].contains(&preset);
        Identity {
            requests_waiting_room,
            ..self
                .add(json!({ "preset_name": preset, "name": name }))
                .await
        }
    }

    /// Adds a participant with these permissions in a group call.
    pub(crate) async fn add_with_permissions(&self, permissions: Value) -> Identity {
        self.add_with_view_type("GROUP_CALL", permissions).await
    }

    /// Adds a participant with these permissions and this view type.
    pub(crate) async fn add_with_view_type(&self, view: &str, permissions: Value) -> Identity {
        let preset = self.preset(view, permissions.clone()).await;
        Identity {
            requests_waiting_room: permissions["accept_waiting_requests"] == true,
            ..self.add_with_preset(&preset).await
        }
    }

    /// Creates a preset and returns its name.
    pub(crate) async fn preset(&self, view: &str, permissions: Value) -> String {
        let name = signal::new_peer_id();
        let preset = json!({
            "name": name, "config": { "view_type": view }, "permissions": permissions, "ui": {},
        });
        let created = self.post(&format!("{}/presets", self.app), &preset).await;
        created.expect(200).unwrap();
        name
    }

    /// Adds a participant with a preset and joins as its peer.
    pub(crate) async fn enter(&self, preset: &str) -> Peer {
        Peer::enter(&self.add_with_preset(preset).await)
            .await
            .unwrap()
    }

    /// Returns a new host that has joined.
    pub(crate) async fn host(&self) -> Peer {
        self.enter("group_call_host").await
    }

    /// Returns a new participant that has joined.
    pub(crate) async fn participant(&self) -> Peer {
        self.enter("group_call_participant").await
    }

    /// Returns the sessions of this meeting from the REST API, newest first.
    pub(crate) async fn sessions(&self) -> Vec<Value> {
        let path = format!(
            "{}/sessions?associated_id={}&sort_by=createdAt&sort_order=DESC",
            self.app, self.id
        );
        let listed = self.get(&path).await.expect(200).unwrap();
        listed["sessions"].as_array().unwrap().clone()
    }

    /// Returns the peers of a session from the REST API, in the order of their joins.
    pub(crate) async fn peers_of(&self, session: &str) -> Vec<Value> {
        let path = format!(
            "{}/sessions/{session}/participants?sort_by=joinedAt&sort_order=ASC&per_page=200",
            self.app
        );
        let listed = self.get(&path).await.expect(200).unwrap();
        listed["participants"].as_array().unwrap().clone()
    }

    /// Returns the live session from the REST API, if there is one.
    pub(crate) async fn active_session(&self) -> Option<Value> {
        let response = self.get(&self.path("/active-session")).await;
        (response.status == 200).then(|| response.body["data"].clone())
    }
}

/// Sends a public chat message and waits for the sender's copy of it.
pub(crate) async fn send_message(peer: &Peer, text: &str) -> ChatMessage {
    let request = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: text.to_owned(),
    };
    peer.tell(event::SEND_MESSAGE_TO_ROOM, &request)
        .await
        .unwrap();
    loop {
        let message = next_message(peer).await;
        if message.peer_id == peer.id() && message.payload == text {
            return message;
        }
    }
}

/// Waits for the next public chat message.
pub(crate) async fn next_message(peer: &Peer) -> ChatMessage {
    let push: SendChatMessageToRoomResponse = peer.push(event::SEND_MESSAGE_TO_ROOM).await.unwrap();
    push.message.unwrap()
}

/// Returns a private message as the SDK sends it: to the recipients and the sender.
pub(crate) fn private_message(
    from: &Peer,
    to: &[&Peer],
    text: &str,
) -> SendChatMessageToPeersRequest {
    let recipients = to.iter().chain([&from]).map(|peer| peer.id().to_owned());
    SendChatMessageToPeersRequest {
        peer_ids: recipients.collect(),
        payload_type: 0,
        payload: text.to_owned(),
    }
}

/// Waits for the next private chat message.
pub(crate) async fn next_private_message(peer: &Peer) -> ChatMessage {
    let push: SendChatMessageToPeersResponse =
        peer.push(event::SEND_MESSAGE_TO_PEERS).await.unwrap();
    push.message.unwrap()
}

/// Waits until each of these peers has received everything that was sent to it so far.
pub(crate) async fn settle(peers: &[&Peer]) {
    for peer in peers {
        peer.settle().await.unwrap();
    }
}

/// Checks that a socket is accepted, receives nothing, and is closed with the code that tells
/// clients not to reconnect (docs/spec/signalling.md 1.5).
pub(crate) async fn assert_rejected(identity: &Identity) -> Closed {
    let peer = Peer::open(identity).await.unwrap();
    let closed = peer.closed().await.unwrap();
    assert_eq!(closed.code, Some(1000), "{closed:?}");
    assert!(peer.received().is_empty(), "{:?}", peer.received());
    closed
}
