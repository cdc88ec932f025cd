//! Media.

use parlor_live::{ConnectionId, Limits, Source};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeerRequest, ConsumePeersRequest, ConsumerCloseRequest, GlobalPeerPinningRequest,
    HostMediaControlForAllPeerRequest, HostMediaControlForPeerRequest, PeerDisplayNameEditRequest,
    PeerJoinRequest, ProducerCloseRequest, ProducerCreateRequest, ProducerCreateResponse,
    ProducerToggleRequest, UpdateConsumerSimulcastConfigRequest,
    UpdateConsumersSimulcastConfigRequest,
};
use parlor_protocol::signal::media::{
    CreateTransportRequest, RenegotiateRequest, SessionDescription, Simulcast,
};

use super::{Costs, LargeMeeting, MEETING, RUNS, long};
use crate::costs::one_of_many;
use crate::media_plane::track;
use crate::participants::{all, peer};
use crate::slices::limits;
use crate::world::World;

const SOURCES: [Source; 4] = [
    Source::Microphone,
    Source::Camera,
    Source::Screen,
    Source::ScreenAudio,
];

fn description(bytes: usize) -> SessionDescription {
    SessionDescription {
        sdp: "v".repeat(bytes),
        ..SessionDescription::default()
    }
}

fn sent() -> String {
    format!("{{\"mid\":\"2\",\"x\":\"{}\"}}", "x".repeat(1_000))
}

/// All participants publish four tracks each, with maximum metadata.
fn everybody_publishes(limits: Limits) -> (LargeMeeting, Vec<String>) {
    let mut crowd = LargeMeeting::of(limits, ViewType::GroupCall, |profile| {
        long(profile);
        profile.permissions = all();
    });
    let mut tracks = Vec::new();
    let sockets: Vec<ConnectionId> = crowd.others.iter().chain([&crowd.boss]).copied().collect();
    for socket in sockets {
        crowd.world.connect_media(socket);
        tracks.extend(publish(&mut crowd.world, socket));
    }
    crowd.world.advance(5_000);
    (crowd, tracks)
}

fn publish(world: &mut World, socket: ConnectionId) -> Vec<String> {
    let one = |source| {
        let request = ProducerCreateRequest {
            app_data: Some(sent()),
            ..track(source)
        };
        let outcome = world.request_media(socket, event::PRODUCE, &request);
        let made: ProducerCreateResponse = outcome.reply(event::PRODUCE);
        made.producer_id
    };
    SOURCES.into_iter().map(one).collect()
}

/// Replies to all pending orders of the media plane.
fn answered(world: &mut World) {
    while !world.media_plane.waiting.is_empty() {
        world.answer_order(0);
    }
}

pub(super) fn send(costs: &mut Costs) {
    let limits = Limits {
        consumers: 256,
        ..limits()
    };
    for _ in 0..RUNS {
        let (mut crowd, tracks) = everybody_publishes(limits.clone());
        let (world, boss) = (&mut crowd.world, crowd.boss);
        transports(costs, world, boss, &tracks);
        hosts(costs, world, boss);
    }
}

fn transports(costs: &mut Costs, world: &mut World, boss: ConnectionId, tracks: &[String]) {
    let consume = ConsumePeersRequest {
        requests: tracks[..256]
            .iter()
            .map(|track| ConsumePeerRequest {
                producer_id: Some(track.clone()),
                simulcast: Some(Simulcast {
                    preferred_rid: Some("f".repeat(100)),
                    ..Simulcast::default()
                }),
                ..ConsumePeerRequest::default()
            })
            .collect(),
        consuming_transport_id: None,
    };
    costs.send("256 tracks", world, boss, event::CONSUME, &consume);
    answered(world);
    let transport = world.media_plane.transports[&(peer(0, 0), false)].clone();
    let mids: Vec<String> = world.media_plane.consumers.values().cloned().collect();
    let wish = UpdateConsumersSimulcastConfigRequest {
        requests: mids
            .iter()
            .map(|mid| UpdateConsumerSimulcastConfigRequest {
                mid: mid.clone(),
                simulcast: Some(Simulcast {
                    preferred_rid: Some("q".repeat(100)),
                    ..Simulcast::default()
                }),
                ..UpdateConsumerSimulcastConfigRequest::default()
            })
            .collect(),
        consuming_transport_id: None,
    };
    costs.send("256 layers", world, boss, event::UPDATE_SIMULCAST, &wish);
    let agree = RenegotiateRequest {
        transport_id: transport,
        description: Some(description(500 << 10)),
    };
    costs.send("500 KiB of SDP", world, boss, event::RENEGOTIATE, &agree);
    answered(world);
    let no_more = ConsumerCloseRequest {
        consumer_ids: mids,
        description: Some(description(500 << 10)),
        consuming_transport_id: None,
    };
    costs.send(
        "256 tracks, 500 KiB of SDP",
        world,
        boss,
        event::CLOSE_CONSUMER,
        &no_more,
    );
    answered(world);
    let own = tracks[tracks.len() - 4..].to_vec();
    let toggle = ProducerToggleRequest {
        producer_id: own[0].clone(),
        pause: true,
    };
    costs.send(
        "200 receivers",
        world,
        boss,
        event::TOGGLE_PRODUCER,
        &toggle,
    );
    let close = ProducerCloseRequest {
        producer_id: own[1].clone(),
        description: Some(description(500 << 10)),
        producing_transport_id: None,
    };
    costs.send("500 KiB of SDP", world, boss, event::CLOSE_PRODUCER, &close);
    answered(world);
    let produce = ProducerCreateRequest {
        app_data: Some(sent()),
        description: Some(description(500 << 10)),
        ..track(Source::Camera)
    };
    costs.send("500 KiB of SDP", world, boss, event::PRODUCE, &produce);
    answered(world);
    let join = PeerJoinRequest {
        preset: Some(vec![b'0'; 60 << 10].into()),
        ..PeerJoinRequest::default()
    };
    costs.send("4 tracks end", world, boss, event::MEDIA_JOIN, &join);
    for consuming in [false, true] {
        let open = CreateTransportRequest {
            consuming,
            description: Some(description(250 << 10)),
            ..CreateTransportRequest::default()
        };
        costs.send(
            "250 KiB of SDP",
            world,
            boss,
            event::CREATE_TRANSPORT,
            &open,
        );
        answered(world);
    }
    costs.send("796 tracks", world, boss, event::MEDIA_JOIN_COMPLETE, &());
    publish(world, boss);
}

fn hosts(costs: &mut Costs, world: &mut World, boss: ConnectionId) {
    let rename = PeerDisplayNameEditRequest {
        display_name: "\u{1D54F}".repeat(256),
        ..PeerDisplayNameEditRequest::default()
    };
    costs.send("", world, boss, event::CHANGE_DISPLAY_NAME, &rename);
    let pin = GlobalPeerPinningRequest {
        participant_id: one_of_many(MEETING - 1).peer.to_string(),
    };
    costs.send("200 receivers", world, boss, event::PIN_PEER, &pin);
    let one = HostMediaControlForPeerRequest {
        participant_id: one_of_many(1).peer.to_string(),
        audio: true,
        video: true,
        scree_share: true,
    };
    costs.send("4 tracks", world, boss, event::HOST_CONTROL_PEER, &one);
    let all = HostMediaControlForAllPeerRequest {
        audio: true,
        video: true,
        screen_share: true,
    };
    costs.send("796 tracks", world, boss, event::HOST_CONTROL_ALL, &all);
    costs.send("4 tracks end", world, boss, event::MEDIA_LEAVE, &());
}
