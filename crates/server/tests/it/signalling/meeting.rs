//! A meeting, the people added to it, and what REST says about it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::ChatMessage;
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToPeersRequest, SendChatMessageToPeersResponse, SendChatMessageToRoomRequest,
    SendChatMessageToRoomResponse,
};
use parlor_testkit::signal::{self, Closed, Identity, Peer};
use parlor_testkit::{Answer, Client};
use serde_json::{Value, json};

use crate::signalling::server::Server;

/// A meeting of a test.
pub(crate) struct Meeting {
    client: Client,
    /// The path of the app.
    pub(crate) app: String,
    /// The meeting's id.
    pub(crate) id: String,
    address: SocketAddr,
    people: AtomicU32,
}

impl Meeting {
    /// Makes one in an app.
    pub(crate) async fn make(server: &Server, app: String, settings: Value) -> Self {
        let client = server.client();
        let made = client.post(&format!("{app}/meetings"), &settings).await;
        let made = made.unwrap().expect(201).unwrap();
        Self {
            client,
            app,
            id: made["id"].as_str().unwrap().to_owned(),
            address: signal::address_of(server.origin()).unwrap(),
            people: AtomicU32::new(0),
        }
    }

    /// The same meeting after its server was started again.
    pub(crate) fn moved_to(mut self, server: &Server) -> Self {
        self.client = server.client();
        self.address = signal::address_of(server.origin()).unwrap();
        self
    }

    /// Somebody who was added before, at the address that holds now.
    pub(crate) fn found_again(&self, identity: &Identity) -> Identity {
        Identity {
            server: self.address,
            ..identity.clone()
        }
    }

    /// The path of something of this meeting.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}/meetings/{}{rest}", self.app, self.id)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client.get(path).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.client.post(path, body).await.unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.client.patch(path, body).await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.client.delete(path).await.unwrap()
    }

    /// Adds somebody by the body of the request.
    pub(crate) async fn add(&self, mut person: Value) -> Identity {
        let number = self.people.fetch_add(1, Ordering::Relaxed);
        let custom_id = format!("person-{number}");
        person["custom_participant_id"] = json!(custom_id);
        let added = self.post(&self.path("/participants"), &person).await;
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
            asks_who_waits: false,
        }
    }

    /// Adds somebody with a preset of the app.
    pub(crate) async fn person(&self, preset: &str) -> Identity {
        let number = self.people.load(Ordering::Relaxed);
        let name = format!("Person {number}");
        let asks_who_waits =
            ["group_call_host", "webinar_presenter", "livestream_host"].contains(&preset);
        Identity {
            asks_who_waits,
            ..self
                .add(json!({ "preset_name": preset, "name": name }))
                .await
        }
    }

    /// Adds somebody with these permissions in a group call.
    pub(crate) async fn person_who(&self, permissions: Value) -> Identity {
        self.person_seeing("GROUP_CALL", permissions).await
    }

    /// Adds somebody with these permissions in a call of this view type.
    pub(crate) async fn person_seeing(&self, view: &str, permissions: Value) -> Identity {
        let preset = self.preset(view, permissions.clone()).await;
        Identity {
            asks_who_waits: permissions["accept_waiting_requests"] == true,
            ..self.person(&preset).await
        }
    }

    /// Makes a preset and answers its name.
    pub(crate) async fn preset(&self, view: &str, permissions: Value) -> String {
        let name = signal::new_peer_id();
        let preset = json!({
            "name": name, "config": { "view_type": view }, "permissions": permissions, "ui": {},
        });
        let made = self.post(&format!("{}/presets", self.app), &preset).await;
        made.expect(200).unwrap();
        name
    }

    /// Adds somebody with a preset and lets them join.
    pub(crate) async fn enter(&self, preset: &str) -> Peer {
        Peer::enter(&self.person(preset).await).await.unwrap()
    }

    /// A host, inside.
    pub(crate) async fn host(&self) -> Peer {
        self.enter("group_call_host").await
    }

    /// A participant, inside.
    pub(crate) async fn participant(&self) -> Peer {
        self.enter("group_call_participant").await
    }

    /// The sessions of this meeting, newest first, as REST lists them.
    pub(crate) async fn sessions(&self) -> Vec<Value> {
        let path = format!(
            "{}/sessions?associated_id={}&sort_by=createdAt&sort_order=DESC",
            self.app, self.id
        );
        let listed = self.get(&path).await.expect(200).unwrap();
        listed["sessions"].as_array().unwrap().clone()
    }

    /// The peers of a session, first come first, as REST lists them.
    pub(crate) async fn peers_of(&self, session: &str) -> Vec<Value> {
        let path = format!(
            "{}/sessions/{session}/participants?sort_by=joinedAt&sort_order=ASC&per_page=200",
            self.app
        );
        let listed = self.get(&path).await.expect(200).unwrap();
        listed["participants"].as_array().unwrap().clone()
    }

    /// The session that is live, as REST knows it.
    pub(crate) async fn active_session(&self) -> Option<Value> {
        let answer = self.get(&self.path("/active-session")).await;
        (answer.status == 200).then(|| answer.body["data"].clone())
    }
}

/// Says something to everybody and waits for the own copy of it.
pub(crate) async fn say(peer: &Peer, text: &str) -> ChatMessage {
    let request = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: text.to_owned(),
    };
    peer.tell(event::SEND_MESSAGE_TO_ROOM, &request)
        .await
        .unwrap();
    loop {
        let message = said(peer).await;
        if message.peer_id == peer.id() && message.payload == text {
            return message;
        }
    }
}

/// The next message to everybody that arrives here.
pub(crate) async fn said(peer: &Peer) -> ChatMessage {
    let push: SendChatMessageToRoomResponse = peer.push(event::SEND_MESSAGE_TO_ROOM).await.unwrap();
    push.message.unwrap()
}

/// A private message, as the SDK sends it: to the recipients and oneself.
pub(crate) fn whisper(from: &Peer, to: &[&Peer], text: &str) -> SendChatMessageToPeersRequest {
    let recipients = to.iter().chain([&from]).map(|peer| peer.id().to_owned());
    SendChatMessageToPeersRequest {
        peer_ids: recipients.collect(),
        payload_type: 0,
        payload: text.to_owned(),
    }
}

/// The next private message that arrives here.
pub(crate) async fn whispered(peer: &Peer) -> ChatMessage {
    let push: SendChatMessageToPeersResponse =
        peer.push(event::SEND_MESSAGE_TO_PEERS).await.unwrap();
    push.message.unwrap()
}

/// Waits until each of these peers has received what was sent to it up to now.
pub(crate) async fn settle(peers: &[&Peer]) {
    for peer in peers {
        peer.settle().await.unwrap();
    }
}

/// Checks that a socket is accepted, gets nothing, and is closed so that no client comes back
/// (docs/spec/signalling.md 1.5).
pub(crate) async fn is_turned_away(identity: &Identity) -> Closed {
    let peer = Peer::open(identity).await.unwrap();
    let closed = peer.closed().await.unwrap();
    assert_eq!(closed.code, Some(1000), "{closed:?}");
    assert!(peer.received().is_empty(), "{:?}", peer.received());
    closed
}
