//! Clients that flood the socket of a meeting.

use std::time::Duration;

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::{chat, room};
use parlor_testkit::Stage;
use parlor_testkit::signal::wire::Message;
use parlor_testkit::signal::{Encodable, Peer, Received};

use crate::bystander::{Use, beside};
use crate::checks::{Ground, Report, process};

const HOST: &str = "group_call_host";
const GUEST: &str = "group_call_participant";
/// Requests of one person to move people that are carried out in a run, at most: 200 a minute.
const MOVES: usize = 210;
/// The same of kicks: 200 in ten seconds.
const KICKS: usize = 300;

/// A meeting with an attacker, who is a host, and a bystander.
async fn meet(stage: &Stage) -> Result<(String, Peer, Peer)> {
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, HOST, 2).await?;
    let (attacker, bystander) = (&people[0], &people[1]);
    let attacker = Peer::enter(attacker).await?;
    let bystander = Peer::enter(bystander).await?;
    Ok((meeting, attacker, bystander))
}

/// What came of requests that were sent without waiting.
#[derive(Debug, Default)]
struct Fate {
    answered: usize,
    refused: usize,
}

/// Waits until everything that was sent is dealt with, and counts the answers. What is not answered
/// when it is carried out is only ever refused.
async fn fate(attacker: &Peer, ids: &[String], is_answered: bool) -> Result<Fate> {
    attacker.settle().await?;
    let mut fate = Fate::default();
    for _ in 0..100 {
        fate = Fate::default();
        for frame in attacker.received() {
            if frame.id.as_ref().is_some_and(|id| ids.contains(id)) {
                match frame.refusal() {
                    Some(_) => fate.refused += 1,
                    None => fate.answered += 1,
                }
            }
        }
        if !is_answered || fate.answered + fate.refused == ids.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(fate)
}

/// Floods an attacker's socket at a pace that the limit of frames allows.
async fn flood<M: Encodable>(
    attacker: &Peer,
    number: u32,
    count: usize,
    message: impl Fn(usize) -> M,
) -> Result<Fate> {
    let mut ids = Vec::with_capacity(count);
    for index in 0..count {
        ids.push(attacker.tell(number, &message(index)).await?);
        if index % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
    }
    fate(attacker, &ids, number != event::KICK).await
}

/// Frames of a megabyte that hold half a million empty elements.
pub(crate) async fn empty_fields(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let (_, attacker, bystander) = meet(&stage).await?;
    let process = process(&stage)?;
    let uses = [Use::Socket(&bystander)];
    // Field 3 of the message, length 0, again and again.
    let payload: Vec<u8> = [0x1a, 0x00].repeat(515_000);
    let count = ground.amount(100, 1000);
    let mut before = 0;
    let attack = async {
        before = process.resident()?;
        let mut most = before;
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
            most = most.max(process.resident()?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(most)
    };
    let most = beside(&mut report, &uses, attack).await?;
    report.growth(before, most);
    let replies: Vec<Received> = attacker.received();
    let taken = replies
        .iter()
        .filter(|frame| {
            frame
                .id
                .as_ref()
                .is_some_and(|id| id.starts_with("attack-"))
        })
        .filter(|frame| frame.refusal().is_none())
        .count();
    report.must(taken == 0, format!("{taken} such frames were not refused"));
    let refused = replies.iter().filter(|frame| frame.refusal().is_some());
    report.must(refused.count() > 0, "no such frame was looked at");
    Ok(report)
}

fn movement(from: &str, to: &str, who: &str, times: usize) -> room::MovePeersBetweenRoomsRequest {
    let one = room::MovePeerPayload {
        id: Some(who.to_owned()),
        preset_id: None,
    };
    room::MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(from.to_owned()),
        destination_meeting_id: Some(to.to_owned()),
        participants: vec![one; times],
    }
}

/// Makes breakout rooms and answers their ids.
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
        .context("an id of each room")
}

/// One person who is moved again and again, a thousand times in each frame.
pub(crate) async fn moves(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let (meeting, attacker, bystander) = meet(&stage).await?;
    let rooms = breakouts(&attacker, 1).await?;
    let uses = [Use::rest(&stage, &meeting), Use::Socket(&bystander)];
    let count = ground.amount(300, 3000);
    // The attacker moves somebody else, so as to stay.
    let victim = stage.people(&meeting, GUEST, 1).await?;
    let attack = flood(&attacker, event::MOVE_PEERS, count, |_| {
        movement(&meeting, &rooms[0], &victim[0].participant, 1000)
    });
    let fate = beside(&mut report, &uses, attack).await?;
    report.figure(format!("{} of {count} carried out", fate.answered));
    report.must(
        (1..=MOVES).contains(&fate.answered) && fate.refused + fate.answered == count,
        format!("of {count} requests came: {fate:?}"),
    );
    Ok(report)
}

/// Kicks of nobody, and breakout rooms that are made and deleted.
pub(crate) async fn kicks(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let (meeting, attacker, bystander) = meet(&stage).await?;
    let uses = [Use::rest(&stage, &meeting), Use::Socket(&bystander)];
    let count = ground.amount(400, 3000);
    let attack = async {
        let kicked = flood(&attacker, event::KICK, count, |_| {
            room::RemoveParticipantsRequest {
                peer_ids: vec![parlor_testkit::signal::new_peer_id()],
            }
        })
        .await?;
        let made = flood(&attacker, event::CREATE_CONNECTED_ROOMS, count, |_| {
            room::CreateConnectedRoomsRequest {
                payloads: vec![room::CreateRoomRequestPayload::default()],
            }
        })
        .await?;
        Ok((kicked, made))
    };
    let (kicked, made) = beside(&mut report, &uses, attack).await?;
    report.figure(format!("{} of {count} rooms made", made.answered));
    report.must(
        made.answered * 4 <= count,
        format!("{} of {count} rooms were made", made.answered),
    );
    report.must(
        kicked.refused + KICKS >= count,
        format!("of {count} kicks were refused: {}", kicked.refused),
    );
    Ok(report)
}

/// Text frames that the server answers.
pub(crate) async fn texts(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let (_, attacker, bystander) = meet(&stage).await?;
    let uses = [Use::Socket(&bystander)];
    let count = ground.amount(20_000, 500_000);
    let attack = async {
        for _ in 0..count {
            if attacker.send(Message::text("2")).await.is_err() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(attacker.pongs())
    };
    let answered = beside(&mut report, &uses, attack).await?;
    report.figure(format!("{answered} of {count} answered"));
    report.must(answered > 0, "nobody answers a ping");
    report.must(
        answered * 10 <= count,
        format!("{answered} of {count} were answered"),
    );
    Ok(report)
}

/// Searches in a chat that is full of a letter whose lower case is two letters.
pub(crate) async fn searches(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&["--chat-per-minute", "0"]).await?;
    let (_, attacker, bystander) = meet(&stage).await?;
    let uses = [Use::Socket(&bystander)];
    let said = chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "İ".repeat(2000),
    };
    for _ in 0..ground.amount(200, 4000) {
        let _: chat::SendChatMessageToRoomResponse =
            attacker.ask(event::SEND_MESSAGE_TO_ROOM, &said).await?;
    }
    attacker.forget();
    bystander.forget();
    let search = chat::SearchChatMessagesRequest {
        search_term: "nowhere".to_owned(),
        size: 50,
        ..chat::SearchChatMessagesRequest::default()
    };
    let count = ground.amount(200, 1000);
    let attack = flood(&attacker, event::SEARCH_CHANNEL_MESSAGES, count, |_| {
        search.clone()
    });
    let fate = beside(&mut report, &uses, attack).await?;
    report.must(fate.answered > 0, "no search was answered");
    report.must(fate.refused > 0, "no search was refused");
    Ok(report)
}

/// The same breakout room, named a thousand times.
pub(crate) async fn repeated_ids(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let (_, attacker, _) = meet(&stage).await?;
    let rooms = breakouts(&attacker, 1).await?;
    let people = stage.people(&rooms[0], GUEST, 1).await?;
    let bystander = Peer::enter(&people[0]).await?;
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
    let copies = 1 + bystander.untaken(&[event::BROADCAST_TO_ENTITY]).len();
    report.figure(format!("{copies} copies arrived"));
    report.must(
        copies == 1,
        format!("{copies} copies of one message arrived"),
    );
    Ok(report)
}
