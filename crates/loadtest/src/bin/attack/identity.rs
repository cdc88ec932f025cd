//! Clients that try to become, or to learn, what they may not.

use std::time::Duration;

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::{polls, room};
use parlor_testkit::signal::{Identity, Peer, new_peer_id};
use parlor_testkit::{Stage, plain_http};
use serde_json::{Value, json};

use crate::checks::{Ground, Report, add, claims, links};
use crate::frames::breakouts;

const HOST: &str = "group_call_host";
const GUEST: &str = "group_call_participant";

/// Adds somebody with a token that lives so long.
async fn person(
    stage: &Stage,
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
    let added = add(stage, meeting, &body).await?;
    let text = |name: &str| {
        let text = added[name].as_str();
        anyhow::Ok(text.with_context(|| format!("no {name}"))?.to_owned())
    };
    Ok(Identity {
        server: stage.address,
        meeting: meeting.to_owned(),
        peer: new_peer_id(),
        participant: text("id")?,
        custom_id: name.to_owned(),
        name: name.to_owned(),
        token: text("token")?,
        asks_who_waits: false,
    })
}

/// Whoever watches the pushes of a poll learns no more than the poll says.
pub(crate) async fn polls(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let host = Peer::enter(&person(&stage, &meeting, "host", HOST, None).await?).await?;
    let spy = Peer::enter(&person(&stage, &meeting, "spy", GUEST, None).await?).await?;
    for (anonymous, hide_votes) in [(true, false), (false, true), (true, true)] {
        let request = polls::NewPollRequest {
            question: "Who?".to_owned(),
            options: vec!["a".to_owned(), "b".to_owned()],
            anonymous,
            hide_votes,
            ..polls::NewPollRequest::default()
        };
        let made: polls::UpdatePollResponse = host.ask(event::CREATE_POLL, &request).await?;
        let poll_id = made.poll.context("the poll that was made")?.poll_id;
        for number in 0..3 {
            let name = format!("voter-{anonymous}-{hide_votes}-{number}");
            let voter = person(&stage, &meeting, &name, GUEST, None).await?;
            let voter = Peer::enter(&voter).await?;
            let vote = polls::VotePollRequest {
                poll_id: poll_id.clone(),
                index: number % 2,
            };
            voter.tell(event::VOTE_POLL, &vote).await?;
            voter.settle().await?;
            // Votes are told a moment later.
            tokio::time::sleep(Duration::from_millis(600)).await;
            spy.settle().await?;
            for frame in spy.untaken(&[event::UPDATE_POLL, event::VOTE_POLL]) {
                let payload = frame.payload.unwrap_or_default();
                for secret in [voter.user(), &name] {
                    let told = payload
                        .windows(secret.len())
                        .any(|window| window == secret.as_bytes());
                    report.must(
                        !told,
                        format!("a push of the poll ({anonymous}, {hide_votes}) names {secret}"),
                    );
                }
            }
        }
    }
    Ok(report)
}

/// How long a token lives, from when it was signed.
fn seconds_left(token: &str) -> Result<i64> {
    let claims = claims(token)?;
    let at = |name: &str| claims[name].as_i64().with_context(|| format!("no {name}"));
    Ok(at("exp")? - at("iat")?)
}

/// Moves somebody, and answers who they become.
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
    let token = transfer.auth_token.context("a token for the other room")?;
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

/// A token for half a minute does not become one for longer than two.
pub(crate) async fn moved_tokens(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let host = person(&stage, &meeting, "host", HOST, None).await?;
    let host = Peer::enter(&host).await?;
    let guest = person(&stage, &meeting, "guest", GUEST, Some(30)).await?;
    let guest = Peer::enter(&guest).await?;
    let rooms = breakouts(&host, 1).await?;
    let there = moved(&host, &guest, &meeting, &rooms[0]).await?;
    let left = seconds_left(&there.token)?;
    report.figure(format!("a token for 30 s became one for {left} s"));
    report.must(left <= 125, format!("the moved token lives {left} s"));
    drop(guest);
    let guest = Peer::enter(&there).await?;
    let back = moved(&host, &guest, &rooms[0], &meeting).await?;
    let left = seconds_left(&back.token)?;
    report.must(left <= 130, format!("moved back, it lives {left} s"));
    Ok(report)
}

/// Whoever is deleted from a meeting is out of its breakout rooms too.
pub(crate) async fn deleted(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let host = person(&stage, &meeting, "host", HOST, None).await?;
    let host = Peer::enter(&host).await?;
    let guest = person(&stage, &meeting, "guest", GUEST, None).await?;
    let in_parent = Peer::enter(&guest).await?;
    let rooms = breakouts(&host, 1).await?;
    let there = moved(&host, &in_parent, &meeting, &rooms[0]).await?;
    drop(in_parent);
    let inside = Peer::enter(&there).await?;
    let path = format!(
        "{}/meetings/{meeting}/participants/{}?drop=true",
        stage.app, guest.participant
    );
    let answer = stage.client.delete(&path).await?;
    report.must(answer.status == 200, format!("deleting: {}", answer.body));
    let kicked = inside.push_frame(event::KICK).await.is_ok() || !inside.is_open();
    report.must(kicked, "the deleted person is still in the breakout room");
    drop(inside);
    let again = Peer::enter(&there.in_another_tab()).await;
    report.must(
        again.is_err(),
        "the token for the breakout room still admits",
    );
    let people: Value = stage
        .client
        .get(&format!("{}/meetings/{}/participants", stage.app, rooms[0]))
        .await?
        .body;
    let left = people["data"].as_array().map_or(0, Vec::len);
    report.must(left == 0, format!("{left} records are left in the room"));
    Ok(report)
}

/// Links to files are good for nothing once the person they were made for is deleted.
pub(crate) async fn orphaned_links(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let owner = person(&stage, &meeting, "owner", HOST, None).await?;
    let [put, get] = links(&stage, &meeting, &owner.token).await?;
    let [unused, _] = links(&stage, &meeting, &owner.token).await?;
    let http = plain_http();
    let url = |path: &str| format!("http://{}{path}", stage.address);
    let stored = http.put(url(&put)).body("a file").send().await?;
    report.must(stored.status().is_success(), "the file was not taken");
    let before = http.get(url(&get)).send().await?.status();
    report.must(before.is_success(), "the file cannot be read");
    let path = format!(
        "{}/meetings/{meeting}/participants/{}",
        stage.app, owner.participant
    );
    stage.client.delete(&path).await?;
    let read = http.get(url(&get)).send().await?.status();
    report.must(read == 403, format!("the file is still read: {read}"));
    let written = http
        .put(url(&unused))
        .body("another")
        .send()
        .await?
        .status();
    report.must(written == 403, format!("another is still taken: {written}"));
    Ok(report)
}
