//! `GET /sessions/peer-report/{peer_id}`.

mod call;

use parlor_live::Record;
use serde_json::{Value, json};

use self::call::Call;
use super::{Rooms, assert_near};
use crate::http::place::NOBODYS_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    a_peer_that_left_is_what_the_records_say,
    of_peers_with_one_id_the_one_inside_is_reported,
    a_peer_of_another_app_is_missing,
    a_part_of_a_report_is_shown_when_asked,
    a_deleted_meetings_peers_are_missing,
    the_media_of_those_inside_are_reported,
];

fn path(peer: impl std::fmt::Display) -> String {
    format!("/sessions/peer-report/{peer}")
}

async fn a_peer_that_left_is_what_the_records_say(server: &Server) {
    let rooms = Rooms::of(server).await;
    let held = rooms.ended(&rooms.meeting("Weekly").await, 60, 15).await;
    let peer = rooms.peer(&held, "ada", 1, Some(9));
    rooms.keep(&held, &[Record::Peer(peer.clone())]).await;
    let got = rooms.app.get(&path(peer.peer)).await.data(200);
    let mut shown = got["participant"].clone();
    let report = shown["peer_report"].take();
    assert_eq!(
        report,
        json!({ "metadata": { "room_view_type": "WEBINAR" }, "quality": {} })
    );
    assert_eq!(shown["session_id"], held.id());
    assert_eq!(shown["role"], "group_call_host");
    // For the rest it is what the session says of the peer.
    let neighbour = format!("/sessions/{}/participants/{}", held.id(), peer.peer);
    let neighbour = rooms.app.get(&neighbour).await.data(200);
    for (name, value) in neighbour["participant"].as_object().unwrap() {
        assert_eq!(shown[name], *value, "{name}");
    }
    assert_eq!(shown["id"], peer.peer.to_string());
    assert_eq!(shown["duration"], 9.0);
    assert_eq!(shown.get("peer_events"), None);
    let with = format!("{}?include_peer_events=true", path(peer.peer));
    let with = rooms.app.get(&with).await.data(200);
    let events = with["participant"]["peer_events"].as_array().unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
}

async fn of_peers_with_one_id_the_one_inside_is_reported(server: &Server) {
    let rooms = Rooms::of(server).await;
    let meeting = rooms.meeting("Weekly").await;
    let (first, last) = (
        rooms.ended(&meeting, 90, 15).await,
        rooms.ended(&meeting, 40, 15).await,
    );
    let mut peer = rooms.peer(&first, "ada", 0, Some(2));
    rooms.keep(&first, &[Record::Peer(peer.clone())]).await;
    let id = peer.peer;
    peer = rooms.peer(&last, "ada", 3, Some(5));
    peer.peer = id;
    rooms.keep(&last, &[Record::Peer(peer)]).await;
    let shown = async || rooms.app.get(&path(id)).await.data(200)["participant"].clone();
    assert_eq!(shown().await["session_id"], last.id());
    assert_eq!(shown().await["duration"], 5.0);

    // Somebody inside came before those who have left.
    let inside = rooms.held("Monthly", 60).await;
    let mut peer = rooms.peer(&inside, "bob", 0, None);
    peer.peer = id;
    rooms.keep(&inside, &[Record::Peer(peer)]).await;
    let shown = shown().await;
    assert_eq!(shown["session_id"], inside.id());
    assert_eq!(shown["display_name"], "bob");
    assert_near(&shown["duration"], 60.0);
    // Nobody's media are here: a room elsewhere has them, or none.
    assert_eq!(shown["peer_report"]["quality"], json!({}));
    assert_eq!(shown.get("left_at"), None);
}

async fn a_peer_of_another_app_is_missing(server: &Server) {
    let (rooms, other) = (Rooms::of(server).await, Rooms::of(server).await);
    let held = rooms.held("Weekly", 30).await;
    let peer = rooms.peer(&held, "ada", 0, None);
    rooms.keep(&held, &[Record::Peer(peer.clone())]).await;
    let message = "Error: resource not found: no such peer";
    for (place, id) in [
        (&other, peer.peer.to_string()),
        (&rooms, NOBODYS_ID.to_owned()),
        // Ids of another kind are not ids of peers.
        (&rooms, peer.participant.to_string()),
        (&rooms, held.id()),
    ] {
        place
            .app
            .get(&path(id))
            .await
            .refused(404)
            .is(message, None);
    }
    // Another app's peer of the same id, whose client drew it later, hides nobody.
    let theirs = other.held("Weekly", 30).await;
    let mut twin = other.peer(&theirs, "twin", 1, None);
    twin.peer = peer.peer;
    other.keep(&theirs, &[Record::Peer(twin)]).await;
    for (place, held) in [(&rooms, &held), (&other, &theirs)] {
        let shown = place.app.get(&path(peer.peer)).await.data(200);
        assert_eq!(shown["participant"]["session_id"], held.id());
    }
    let refusal = rooms.app.get(&path(5)).await.refused(400);
    assert!(refusal.message.contains("must be a valid GUID"));
}

async fn a_part_of_a_report_is_shown_when_asked(server: &Server) {
    let rooms = Rooms::of(server).await;
    let held = rooms.held("Weekly", 30).await;
    let peer = rooms.peer(&held, "ada", 0, None);
    rooms.keep(&held, &[Record::Peer(peer.clone())]).await;
    let nothing = json!({ "metadata": {} });
    for (filter, wanted) in [
        ("device_info", &nothing),
        ("ip_information", &nothing),
        ("precall_network_information", &nothing),
        ("events", &nothing),
        ("quality_stats", &json!({ "metadata": {}, "quality": {} })),
    ] {
        let path = format!("{}?filters={filter}", path(peer.peer));
        let shown = rooms.app.get(&path).await.data(200);
        assert_eq!(shown["participant"]["peer_report"], *wanted, "{filter}");
    }
    let odd = format!("{}?filters=everything", path(peer.peer));
    let refusal = rooms.app.get(&odd).await.refused(400);
    assert!(refusal.message.contains("\"filters\""), "{refusal:?}");
}

async fn a_deleted_meetings_peers_are_missing(server: &Server) {
    let rooms = Rooms::of(server).await;
    let held = rooms.ended(&rooms.meeting("Weekly").await, 60, 15).await;
    let peer = rooms.peer(&held, "ada", 1, Some(9));
    rooms.keep(&held, &[Record::Peer(peer.clone())]).await;
    let meeting = format!("/meetings/{}", held.meeting);
    assert_eq!(rooms.app.delete(&meeting).await.status, 200);
    rooms.app.get(&path(peer.peer)).await.refused(404);
}

async fn the_media_of_those_inside_are_reported(server: &Server) {
    let call = Call::begin(server).await;
    let ada = call.until(&call.ada, |report| {
        ["audio_producer", "video_producer"].iter().all(|list| {
            let sample = &report["quality"][*list][0];
            sample["packets_sent"].as_u64() > Some(20) && sample["jitter"].is_number()
        })
    });
    let ada = ada.await;
    let bob = call.until(&call.bob, |report| {
        let pair = &report["metadata"]["candidate_pairs"]["consuming_transport"][0];
        pair["current_round_trip_time"].is_number()
            && ["audio_consumer", "video_consumer"]
                .iter()
                .all(|list| report["quality"][*list][0]["packets_received"].as_u64() > Some(20))
    });
    let bob = bob.await;

    let [microphone, camera] = &call.producers;
    let sample = |report: &Value, list: &str| {
        let samples = report["quality"][list].as_array().unwrap();
        assert_eq!(samples.len(), 1, "{list}: {samples:?}");
        assert!(samples[0]["timestamp"].is_string());
        assert!(samples[0]["bitrate"].as_u64() > Some(0), "{samples:?}");
        samples[0].clone()
    };
    for (report, list, producer, bytes) in [
        (&ada, "audio_producer", microphone, "bytes_sent"),
        (&ada, "video_producer", camera, "bytes_sent"),
        (&bob, "audio_consumer", microphone, "bytes_received"),
        (&bob, "video_consumer", camera, "bytes_received"),
    ] {
        let sample = sample(report, list);
        assert_eq!(sample["producer_id"], *producer, "{list}");
        assert!(sample[bytes].as_u64() > Some(1000), "{list}: {sample}");
    }
    assert_eq!(sample(&ada, "audio_producer")["mid"], "2");
    assert_eq!(sample(&ada, "audio_producer").get("layer"), None);
    assert_eq!(sample(&ada, "video_producer")["mid"], "3");
    assert!(sample(&ada, "video_producer")["layer"].is_string());
    // A loopback interface has no jitter of a second, if seconds they are.
    let jitter = sample(&ada, "audio_producer")["jitter"].as_f64().unwrap();
    assert!(jitter < 1.0, "{jitter}");

    for (report, way, other, port) in [
        (
            &ada,
            "producing_transport",
            "consuming_transport",
            call.from[0],
        ),
        (
            &bob,
            "consuming_transport",
            "producing_transport",
            call.from[1],
        ),
    ] {
        let metadata = &report["metadata"];
        assert_eq!(metadata["ip_information"]["ipv4"], "127.0.0.1");
        assert_eq!(metadata["room_view_type"], "GROUP_CALL");
        let pairs = &metadata["candidate_pairs"];
        assert_eq!(pairs[other], json!([]));
        let pair = &pairs[way][0];
        assert_eq!(pair["local_candidate_protocol"], "udp");
        assert_eq!(pair["local_candidate_address"], "127.0.0.1");
        assert_eq!(pair["local_candidate_port"], port);
        assert_eq!(pair.get("local_candidate_type"), None);
    }
    let pair = &bob["metadata"]["candidate_pairs"]["consuming_transport"][0];
    assert!(pair["available_incoming_bitrate"].as_u64() > Some(0));
    assert!(pair["current_round_trip_time"].as_f64().unwrap() < 1.0);

    let id = call.ada.id().to_owned();
    call.ada.leave().await.unwrap();
    let gone = call.app.get(&path(&id)).await.data(200);
    let report = &gone["participant"]["peer_report"];
    assert_eq!(report["quality"], json!({}), "{gone}");
    assert_eq!(report["metadata"].get("candidate_pairs"), None, "{gone}");
}
