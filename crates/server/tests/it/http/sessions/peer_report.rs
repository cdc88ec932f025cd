//! `GET /sessions/peer-report/{peer_id}`.

mod call;

use parlor_live::Record;
use serde_json::{Value, json};

use self::call::Call;
use super::{SessionWriter, assert_near};
use crate::http::resource::UNKNOWN_ID;
use crate::http::server::Server;
use crate::on_both_databases;

on_both_databases![
    the_report_of_a_departed_peer_comes_from_its_records,
    among_peers_with_one_id_the_connected_one_is_reported,
    a_peer_of_another_app_is_not_found,
    a_filter_selects_a_part_of_the_report,
    peers_of_a_deleted_meeting_are_not_found,
    media_of_connected_peers_is_reported,
];

fn path(peer: impl std::fmt::Display) -> String {
    format!("/sessions/peer-report/{peer}")
}

async fn the_report_of_a_departed_peer_comes_from_its_records(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let session = writer
        .ended_session(&writer.meeting("Weekly").await, 60, 15)
        .await;
    let peer = writer.peer(&session, "ada", 1, Some(9));
    writer.insert(&session, &[Record::Peer(peer.clone())]).await;
    let response = writer.app.get(&path(peer.peer)).await.data(200);
    let mut shown = response["participant"].clone();
    let report = shown["peer_report"].take();
    assert_eq!(
        report,
        json!({ "metadata": { "room_view_type": "WEBINAR" }, "quality": {} })
    );
    assert_eq!(shown["session_id"], session.id());
    assert_eq!(shown["role"], "group_call_host");
    // The other fields equal those of the session's participant.
    let listed = format!("/sessions/{}/participants/{}", session.id(), peer.peer);
    let listed = writer.app.get(&listed).await.data(200);
    for (name, value) in listed["participant"].as_object().unwrap() {
        assert_eq!(shown[name], *value, "{name}");
    }
    assert_eq!(shown["id"], peer.peer.to_string());
    assert_eq!(shown["duration"], 9.0);
    assert_eq!(shown.get("peer_events"), None);
    let with = format!("{}?include_peer_events=true", path(peer.peer));
    let with = writer.app.get(&with).await.data(200);
    let events = with["participant"]["peer_events"].as_array().unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
}

async fn among_peers_with_one_id_the_connected_one_is_reported(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let meeting = writer.meeting("Weekly").await;
    let (first, last) = (
        writer.ended_session(&meeting, 90, 15).await,
        writer.ended_session(&meeting, 40, 15).await,
    );
    let mut peer = writer.peer(&first, "ada", 0, Some(2));
    writer.insert(&first, &[Record::Peer(peer.clone())]).await;
    let id = peer.peer;
    peer = writer.peer(&last, "ada", 3, Some(5));
    peer.peer = id;
    writer.insert(&last, &[Record::Peer(peer)]).await;
    let shown = async || writer.app.get(&path(id)).await.data(200)["participant"].clone();
    assert_eq!(shown().await["session_id"], last.id());
    assert_eq!(shown().await["duration"], 5.0);

    // A connected peer takes precedence over departed ones.
    let live = writer.meeting_with_session("Monthly", 60).await;
    let mut peer = writer.peer(&live, "bob", 0, None);
    peer.peer = id;
    writer.insert(&live, &[Record::Peer(peer)]).await;
    let shown = shown().await;
    assert_eq!(shown["session_id"], live.id());
    assert_eq!(shown["display_name"], "bob");
    assert_near(&shown["duration"], 60.0);
    // No room on this node has media of the peer.
    assert_eq!(shown["peer_report"]["quality"], json!({}));
    assert_eq!(shown.get("left_at"), None);
}

async fn a_peer_of_another_app_is_not_found(server: &Server) {
    let (writer, other) = (
        SessionWriter::new(server).await,
        SessionWriter::new(server).await,
    );
    let session = writer.meeting_with_session("Weekly", 30).await;
    let peer = writer.peer(&session, "ada", 0, None);
    writer.insert(&session, &[Record::Peer(peer.clone())]).await;
    let message = "Error: resource not found: no such peer";
    for (writer, id) in [
        (&other, peer.peer.to_string()),
        (&writer, UNKNOWN_ID.to_owned()),
        // Ids of other resources.
        (&writer, peer.participant.to_string()),
        (&writer, session.id()),
    ] {
        writer
            .app
            .get(&path(id))
            .await
            .expect_error(404)
            .assert_message(message, None);
    }
    // A later peer of another app with the same id does not hide the first one.
    let theirs = other.meeting_with_session("Weekly", 30).await;
    let mut duplicate = other.peer(&theirs, "duplicate", 1, None);
    duplicate.peer = peer.peer;
    other.insert(&theirs, &[Record::Peer(duplicate)]).await;
    for (writer, session) in [(&writer, &session), (&other, &theirs)] {
        let shown = writer.app.get(&path(peer.peer)).await.data(200);
        assert_eq!(shown["participant"]["session_id"], session.id());
    }
    let error = writer.app.get(&path(5)).await.expect_error(400);
    assert!(error.message.contains("must be a valid GUID"));
}

async fn a_filter_selects_a_part_of_the_report(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let session = writer.meeting_with_session("Weekly", 30).await;
    let peer = writer.peer(&session, "ada", 0, None);
    writer.insert(&session, &[Record::Peer(peer.clone())]).await;
    let no_data = json!({ "metadata": {} });
    for (filter, expected) in [
        ("device_info", &no_data),
        ("ip_information", &no_data),
        ("precall_network_information", &no_data),
        ("events", &no_data),
        ("quality_stats", &json!({ "metadata": {}, "quality": {} })),
    ] {
        let path = format!("{}?filters={filter}", path(peer.peer));
        let shown = writer.app.get(&path).await.data(200);
        assert_eq!(shown["participant"]["peer_report"], *expected, "{filter}");
    }
    let odd = format!("{}?filters=everything", path(peer.peer));
    let error = writer.app.get(&odd).await.expect_error(400);
    assert!(error.message.contains("\"filters\""), "{error:?}");
}

async fn peers_of_a_deleted_meeting_are_not_found(server: &Server) {
    let writer = SessionWriter::new(server).await;
    let session = writer
        .ended_session(&writer.meeting("Weekly").await, 60, 15)
        .await;
    let peer = writer.peer(&session, "ada", 1, Some(9));
    writer.insert(&session, &[Record::Peer(peer.clone())]).await;
    let meeting = format!("/meetings/{}", session.meeting);
    assert_eq!(writer.app.delete(&meeting).await.status, 200);
    writer.app.get(&path(peer.peer)).await.expect_error(404);
}

async fn media_of_connected_peers_is_reported(server: &Server) {
    let call = Call::start(server).await;
    let ada = call.wait_for_report(&call.ada, |report| {
        ["audio_producer", "video_producer"].iter().all(|list| {
            let sample = &report["quality"][*list][0];
            sample["packets_sent"].as_u64() > Some(20) && sample["jitter"].is_number()
        })
    });
    let ada = ada.await;
    let bob = call.wait_for_report(&call.bob, |report| {
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
    // On a loopback interface, the jitter is well below a second. A larger value means a wrong
    // unit.
    let jitter = sample(&ada, "audio_producer")["jitter"].as_f64().unwrap();
    assert!(jitter < 1.0, "{jitter}");

    for (report, used, unused, port) in [
        (
            &ada,
            "producing_transport",
            "consuming_transport",
            call.ports[0],
        ),
        (
            &bob,
            "consuming_transport",
            "producing_transport",
            call.ports[1],
        ),
    ] {
        let metadata = &report["metadata"];
        assert_eq!(metadata["ip_information"]["ipv4"], "127.0.0.1");
        assert_eq!(metadata["room_view_type"], "GROUP_CALL");
        let pairs = &metadata["candidate_pairs"];
        assert_eq!(pairs[unused], json!([]));
        let pair = &pairs[used][0];
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
    let departed = call.app.get(&path(&id)).await.data(200);
    let report = &departed["participant"]["peer_report"];
    assert_eq!(report["quality"], json!({}), "{departed}");
    assert_eq!(
        report["metadata"].get("candidate_pairs"),
        None,
        "{departed}"
    );
}
