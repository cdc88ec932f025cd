//! Clients that try to gain access or information that they must not have.

use std::time::Duration;

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::{polls, room};
use parlor_testkit::signal::{Identity, Peer, new_peer_id};
use parlor_testkit::{LoadTarget, plain_http};
use serde_json::{Value, json};

use crate::checks::{Report, Setup, add, claims, links};
use crate::frames::breakouts;

const HOST: &str = "group_call_host";
const GUEST: &str = "group_call_participant";

/// Adds a participant whose token has this lifetime, in seconds.
async fn add_participant(
    target: &LoadTarget,
    meeting: &str,
    name: &str,
    preset: &str,
    expires_in: Option<u64>,
) -> Result<Identity> {
    let mut body = json!({
        "custom_participant_id": name,
        "name": name,
        "preset_name": preset,
    });
    if let Some(seconds) = expires_in {
        body["expires_in"] = seconds.into();
    }
    let added = add(target, meeting, &body).await?;
    let text = |name: &str| {
        let text = added[name].as_str();
        anyhow::Ok(text.with_context(|| format!("no {name}"))?.to_owned())
    };
    Ok(Identity {
        server: target.address,
        meeting: meeting.to_owned(),
        peer: new_peer_id(),
        participant: text("id")?,
        custom_id: name.to_owned(),
        name: name.to_owned(),
        token: text("token")?,
        requests_waiting_room: false,
    })
}

/// Checks that the pushes of a poll do not reveal hidden or anonymous votes.
pub(crate) async fn polls(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let meeting = target.meeting().await?;
    let host = Peer::enter(&add_participant(&target, &meeting, "host", HOST, None).await?).await?;
    let spy = Peer::enter(&add_participant(&target, &meeting, "spy", GUEST, None).await?).await?;
    for (anonymous, hide_votes) in [(true, false), (false, true), (true, true)] {
        let request = polls::NewPollRequest {
            question: "Who?".to_owned(),
            options: vec!["a".to_owned(), "b".to_owned()],
            anonymous,
            hide_votes,
            ..polls::NewPollRequest::default()
        };
        let made: polls::UpdatePollResponse = host.ask(event::CREATE_POLL, &request).await?;
        let poll_id = made.poll.context("no poll in the reply")?.poll_id;
        for number in 0..3 {
            let name = format!("voter-{anonymous}-{hide_votes}-{number}");
            let voter = add_participant(&target, &meeting, &name, GUEST, None).await?;
            let voter = Peer::enter(&voter).await?;
            let vote = polls::VotePollRequest {
                poll_id: poll_id.clone(),
                index: number % 2,
            };
            voter.tell(event::VOTE_POLL, &vote).await?;
            voter.settle().await?;
            // Votes are pushed with a delay.
            tokio::time::sleep(Duration::from_millis(600)).await;
            spy.settle().await?;
            for frame in spy.take_pushes(&[event::UPDATE_POLL, event::VOTE_POLL]) {
                let payload = frame.payload.unwrap_or_default();
                for secret in [voter.user(), &name] {
                    let is_revealed = payload
                        .windows(secret.len())
                        .any(|window| window == secret.as_bytes());
                    report.require(
                        !is_revealed,
                        format!("a push of the poll ({anonymous}, {hide_votes}) contains {secret}"),
                    );
                }
            }
        }
    }
    Ok(report)
}

/// Returns the lifetime of a token, in seconds.
fn lifetime(token: &str) -> Result<i64> {
    let claims = claims(token)?;
    let at = |name: &str| claims[name].as_i64().with_context(|| format!("no {name}"));
    Ok(at("exp")? - at("iat")?)
}

/// Moves a participant to another room, and returns their identity there.
async fn moved(host: &Peer, guest: &Peer, from: &str, to: &str) -> Result<Identity> {
    let request = room::MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(from.to_owned()),
        destination_meeting_id: Some(to.to_owned()),
        participants: vec![room::MovePeerPayload {
            id: Some(guest.user().to_owned()),
            preset_id: None,
        }],
    };
    let _: room::MovePeersBetweenRoomsResponse = host.ask(event::MOVE_PEERS, &request).await?;
    let transfer: room::TransferPeer = guest.push(event::TRANSFER_PEER).await?;
    let token = transfer.auth_token.context("no token for the other room")?;
    let participant = claims(&token)?;
    let participant = participant["participantId"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(Identity {
        meeting: to.to_owned(),
        peer: new_peer_id(),
        participant,
        token,
        ..guest.identity().clone()
    })
}

/// Checks that moving between rooms does not extend a token of 30 s beyond about two minutes.
pub(crate) async fn moved_tokens(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let meeting = target.meeting().await?;
    let host = add_participant(&target, &meeting, "host", HOST, None).await?;
    let host = Peer::enter(&host).await?;
    let guest = add_participant(&target, &meeting, "guest", GUEST, Some(30)).await?;
    let guest = Peer::enter(&guest).await?;
    let rooms = breakouts(&host, 1).await?;
    let there = moved(&host, &guest, &meeting, &rooms[0]).await?;
    let seconds = lifetime(&there.token)?;
    report.figure(format!("a token for 30 s became one for {seconds} s"));
    report.require(
        seconds <= 125,
        format!("the token after the move is valid for {seconds} s"),
    );
    drop(guest);
    let guest = Peer::enter(&there).await?;
    let back = moved(&host, &guest, &rooms[0], &meeting).await?;
    let seconds = lifetime(&back.token)?;
    report.require(
        seconds <= 130,
        format!("the token after the move back is valid for {seconds} s"),
    );
    Ok(report)
}

/// Checks that deleting a participant also removes them from the breakout rooms.
pub(crate) async fn deleted(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let meeting = target.meeting().await?;
    let host = add_participant(&target, &meeting, "host", HOST, None).await?;
    let host = Peer::enter(&host).await?;
    let guest = add_participant(&target, &meeting, "guest", GUEST, None).await?;
    let in_parent = Peer::enter(&guest).await?;
    let rooms = breakouts(&host, 1).await?;
    let there = moved(&host, &in_parent, &meeting, &rooms[0]).await?;
    drop(in_parent);
    let inside = Peer::enter(&there).await?;
    let path = format!(
        "{}/meetings/{meeting}/participants/{}?drop=true",
        target.app, guest.participant
    );
    let answer = target.client.delete(&path).await?;
    report.require(answer.status == 200, format!("deleting: {}", answer.body));
    let kicked = inside.push_frame(event::KICK).await.is_ok() || !inside.is_open();
    report.require(
        kicked,
        "the deleted participant is still in the breakout room",
    );
    drop(inside);
    let again = Peer::enter(&there.in_another_tab()).await;
    report.require(
        again.is_err(),
        "the token for the breakout room is still accepted",
    );
    let participants: Value = target
        .client
        .get(&format!(
            "{}/meetings/{}/participants",
            target.app, rooms[0]
        ))
        .await?
        .body;
    let left = participants["data"].as_array().map_or(0, Vec::len);
    report.require(left == 0, format!("the room still has {left} participants"));
    Ok(report)
}

/// Checks that links to files become invalid when their owner is deleted.
pub(crate) async fn orphaned_links(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let meeting = target.meeting().await?;
    let owner = add_participant(&target, &meeting, "owner", HOST, None).await?;
    let [put, get] = links(&target, &meeting, &owner.token).await?;
    let [unused, _] = links(&target, &meeting, &owner.token).await?;
    let http = plain_http();
    let url = |path: &str| format!("http://{}{path}", target.address);
    let stored = http.put(url(&put)).body("a file").send().await?;
    report.require(stored.status().is_success(), "the upload failed");
    let before = http.get(url(&get)).send().await?.status();
    report.require(before.is_success(), "the file cannot be read");
    let path = format!(
        "{}/meetings/{meeting}/participants/{}",
        target.app, owner.participant
    );
    target.client.delete(&path).await?;
    let read = http.get(url(&get)).send().await?.status();
    report.require(read == 403, format!("the file can still be read: {read}"));
    let written = http
        .put(url(&unused))
        .body("another")
        .send()
        .await?
        .status();
    report.require(
        written == 403,
        format!("a file can still be uploaded: {written}"),
    );
    Ok(report)
}
