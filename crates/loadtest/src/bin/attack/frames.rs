//! Clients that flood the socket of a meeting.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::{chat, room};
use parlor_testkit::LoadTarget;
use parlor_testkit::signal::wire::Message;
use parlor_testkit::signal::{Encodable, Peer, Received};

use crate::bystander::{Use, run_alongside};
use crate::checks::{Report, Setup, process};

const HOST: &str = "group_call_host";
const GUEST: &str = "group_call_participant";
/// Interval between two frames of a client that stays below the limit of 100 frames per second.
const FRAME_INTERVAL: Duration = Duration::from_millis(11);
/// Rate limit of move requests of one participant.
const MOVES: (f64, Duration) = (200.0, Duration::from_secs(60));
/// Rate limit of kicks by one participant.
const KICKS: (f64, Duration) = (200.0, Duration::from_secs(10));

/// Returns the maximum number of requests that a rate limit admits in a flood that began at
/// `start`: the burst, and what has been refilled since. A second is added for requests that were
/// sent before the measurement.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn admitted((burst, period): (f64, Duration), start: Instant) -> usize {
    let elapsed = start.elapsed() + Duration::from_secs(1);
    (burst + burst * elapsed.as_secs_f64() / period.as_secs_f64()).ceil() as usize
}

/// Creates a meeting with an attacker, who is a host, and a bystander.
async fn meet(target: &LoadTarget) -> Result<(String, Peer, Peer)> {
    let meeting = target.meeting().await?;
    let identities = target.add_participants(&meeting, HOST, 2).await?;
    let (attacker, bystander) = (&identities[0], &identities[1]);
    let attacker = Peer::enter(attacker).await?;
    let bystander = Peer::enter(bystander).await?;
    Ok((meeting, attacker, bystander))
}

/// Replies to requests that were sent without waiting for them.
#[derive(Debug, Default)]
struct Outcome {
    answered: usize,
    refused: usize,
}

/// Waits until everything sent was processed, and counts the replies. Without `is_answered`, a
/// successful request gets no reply, so only rejections can be counted.
async fn outcome(attacker: &Peer, ids: &[String], is_answered: bool) -> Result<Outcome> {
    attacker.settle().await?;
    let mut outcome = Outcome::default();
    for _ in 0..100 {
        outcome = Outcome::default();
        for frame in attacker.received() {
            if frame.id.as_ref().is_some_and(|id| ids.contains(id)) {
                match frame.refusal() {
                    Some(_) => outcome.refused += 1,
                    None => outcome.answered += 1,
                }
            }
        }
        if !is_answered || outcome.answered + outcome.refused == ids.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(outcome)
}

/// Sends many requests on the attacker's socket, at a rate that the frame limit allows.
async fn flood<M: Encodable>(
    attacker: &Peer,
    number: u32,
    count: usize,
    message: impl Fn(usize) -> M,
) -> Result<Outcome> {
    let mut ids = Vec::with_capacity(count);
    for index in 0..count {
        ids.push(attacker.tell(number, &message(index)).await?);
        if index % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
    }
    outcome(attacker, &ids, number != event::KICK).await
}

/// Frames of one megabyte with half a million empty elements.
pub(crate) async fn empty_fields(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let (_, attacker, bystander) = meet(&target).await?;
    let process = process(&target)?;
    let uses = [Use::Socket(&bystander)];
    // Field 3 of the message with length 0, repeated.
    let payload: Vec<u8> = [0x1a, 0x00].repeat(515_000);
    let count = setup.amount(100, 1000);
    let mut before = 0;
    let attack = async {
        before = process.resident()?;
        let mut peak = before;
        for index in 0..count {
            let envelope = parlor_protocol::signal::Envelope {
                event: event::MOVE_PEERS,
                id: Some(format!("attack-{index}")),
                payload: Some(payload.clone().into()),
                metadata: None,
            };
            let frame = Message::Binary(envelope.encode_to_vec().into());
            if attacker.send(frame).await.is_err() {
                break;
            }
            peak = peak.max(process.resident()?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(peak)
    };
    let peak = run_alongside(&mut report, &uses, attack).await?;
    report.growth(before, peak);
    let replies: Vec<Received> = attacker.received();
    let accepted = replies
        .iter()
        .filter(|frame| {
            frame
                .id
                .as_ref()
                .is_some_and(|id| id.starts_with("attack-"))
        })
        .filter(|frame| frame.refusal().is_none())
        .count();
    report.require(
        accepted == 0,
        format!("{accepted} such frames were not rejected"),
    );
    let refused = replies.iter().filter(|frame| frame.refusal().is_some());
    report.require(refused.count() > 0, "no such frame was processed");
    Ok(report)
}

fn movement(
    from: &str,
    to: &str,
    participant: &str,
    times: usize,
) -> room::MovePeersBetweenRoomsRequest {
    let one = room::MovePeerPayload {
        id: Some(participant.to_owned()),
        preset_id: None,
    };
    room::MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(from.to_owned()),
        destination_meeting_id: Some(to.to_owned()),
        participants: vec![one; times],
    }
}

/// Creates breakout rooms and returns their IDs.
pub(crate) async fn breakouts(host: &Peer, count: usize) -> Result<Vec<String>> {
    let payloads = (0..count).map(|number| room::CreateRoomRequestPayload {
        title: Some(format!("Room {number}")),
    });
    let request = room::CreateConnectedRoomsRequest {
        payloads: payloads.collect(),
    };
    let made: room::CreateConnectedRoomsResponse =
        host.ask(event::CREATE_CONNECTED_ROOMS, &request).await?;
    let ids = made.payloads.into_iter().map(|room| room.id);
    ids.collect::<Option<Vec<_>>>()
        .context("a room without an ID")
}

/// One participant who is moved repeatedly, a thousand times in each frame.
pub(crate) async fn moves(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let (meeting, attacker, bystander) = meet(&target).await?;
    let rooms = breakouts(&attacker, 1).await?;
    let uses = [Use::rest(&target, &meeting), Use::Socket(&bystander)];
    let count = setup.amount(300, 3000);
    // The attacker moves another participant, in order to stay in the meeting.
    let victim = target.add_participants(&meeting, GUEST, 1).await?;
    let attack = async {
        let start = Instant::now();
        let outcome = flood(&attacker, event::MOVE_PEERS, count, |_| {
            movement(&meeting, &rooms[0], &victim[0].participant, 1000)
        });
        Ok((outcome.await?, admitted(MOVES, start)))
    };
    let (outcome, allowed) = run_alongside(&mut report, &uses, attack).await?;
    report.figure(format!("{} of {count} succeeded", outcome.answered));
    report.require(
        (1..=allowed).contains(&outcome.answered) && outcome.refused + outcome.answered == count,
        format!("unexpected replies to {count} requests: {outcome:?}"),
    );
    Ok(report)
}

/// Kicks of unknown peers, and endless creation of breakout rooms.
pub(crate) async fn kicks(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let (meeting, attacker, bystander) = meet(&target).await?;
    let uses = [Use::rest(&target, &meeting), Use::Socket(&bystander)];
    let count = setup.amount(400, 3000);
    let attack = async {
        let start = Instant::now();
        let kicked = flood(&attacker, event::KICK, count, |_| {
            room::RemoveParticipantsRequest {
                peer_ids: vec![parlor_testkit::signal::new_peer_id()],
            }
        })
        .await?;
        let allowed = admitted(KICKS, start);
        let made = flood(&attacker, event::CREATE_CONNECTED_ROOMS, count, |_| {
            room::CreateConnectedRoomsRequest {
                payloads: vec![room::CreateRoomRequestPayload::default()],
            }
        })
        .await?;
        Ok((kicked, allowed, made))
    };
    let (kicked, allowed, made) = run_alongside(&mut report, &uses, attack).await?;
    report.figure(format!("{} of {count} rooms created", made.answered));
    report.require(
        made.answered * 4 <= count,
        format!("{} of {count} rooms were created", made.answered),
    );
    report.require(
        kicked.refused + allowed >= count,
        format!("only {} of {count} kicks were rejected", kicked.refused),
    );
    Ok(report)
}

/// Text pings, to which the server replies.
pub(crate) async fn texts(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let (_, attacker, bystander) = meet(&target).await?;
    let uses = [Use::Socket(&bystander)];
    let count = setup.amount(20_000, 500_000);
    let attack = async {
        for _ in 0..count {
            if attacker.send(Message::text("2")).await.is_err() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(attacker.pongs())
    };
    let answered = run_alongside(&mut report, &uses, attack).await?;
    report.figure(format!("{answered} of {count} answered"));
    report.require(answered > 0, "the server does not reply to pings");
    report.require(
        answered * 10 <= count,
        format!("{answered} of {count} were answered"),
    );
    Ok(report)
}

/// Searches in a chat full of a letter whose lower case has two code points.
pub(crate) async fn searches(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&["--chat-per-minute", "0"]).await?;
    let (_, attacker, bystander) = meet(&target).await?;
    let uses = [Use::Socket(&bystander)];
    let said = chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "İ".repeat(2000),
    };
    for _ in 0..setup.amount(200, 4000) {
        let _: chat::SendChatMessageToRoomResponse =
            attacker.ask(event::SEND_MESSAGE_TO_ROOM, &said).await?;
        tokio::time::sleep(FRAME_INTERVAL).await;
    }
    attacker.forget();
    bystander.forget();
    let search = chat::SearchChatMessagesRequest {
        search_term: "nowhere".to_owned(),
        size: 50,
        ..chat::SearchChatMessagesRequest::default()
    };
    let count = setup.amount(200, 1000);
    let attack = flood(&attacker, event::SEARCH_CHANNEL_MESSAGES, count, |_| {
        search.clone()
    });
    let outcome = run_alongside(&mut report, &uses, attack).await?;
    report.require(outcome.answered > 0, "no search succeeded");
    report.require(outcome.refused > 0, "no search was rejected");
    Ok(report)
}

/// A broadcast that lists the same breakout room a thousand times.
pub(crate) async fn repeated_ids(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let (_, attacker, _) = meet(&target).await?;
    let rooms = breakouts(&attacker, 1).await?;
    let identities = target.add_participants(&rooms[0], GUEST, 1).await?;
    let bystander = Peer::enter(&identities[0]).await?;
    let message = room::BroadcastMessage {
        r#type: "attack".to_owned(),
        payload: "{}".into(),
        ids: vec![rooms[0].clone(); 1000],
        broadcast_type: Some(room::BroadcastType::Rooms.into()),
        ..room::BroadcastMessage::default()
    };
    attacker.tell(event::BROADCAST_TO_ENTITY, &message).await?;
    bystander.push_frame(event::BROADCAST_TO_ENTITY).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let copies = 1 + bystander.take_pushes(&[event::BROADCAST_TO_ENTITY]).len();
    report.figure(format!("{copies} copies arrived"));
    report.require(
        copies == 1,
        format!("{copies} copies of one message arrived"),
    );
    Ok(report)
}
