use std::sync::Arc;

use futures_util::TryStreamExt;
use parlor_live::{
    ChatMessage, EntryKind, Meeting, PayloadType, PeerRecord, Record, SessionRecord,
};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_store::{Error, Place, Row, Statement, Unit, values};
use parlor_testkit::Postgres;
use uuid::Uuid;

use super::*;
use crate::limits::Limits;
use crate::state::Parlor;

const KEEP_ALIVE_MS: i64 = 60_000;

/// Runs a test on both databases.
async fn on_both(test: impl AsyncFn(Scene)) {
    let folder = tempfile::tempdir().unwrap();
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    for place in [
        Place::Sqlite(folder.path().join("parlor.db")),
        Place::Postgres(url),
    ] {
        let parlor = Arc::new(Parlor::open(&place, Limits::default()).await.unwrap());
        test(Scene::new(Arc::clone(&parlor))).await;
        parlor.db.close().await;
    }
}

/// A meeting to keep records of.
struct Scene {
    parlor: Arc<Parlor>,
    app: AppId,
    meeting: MeetingId,
    session: SessionId,
    now_ms: i64,
}

impl Scene {
    fn new(parlor: Arc<Parlor>) -> Self {
        let now_ms = parlor.clock.now_ms();
        Self {
            app: AppId::from_uuid(parlor.clock.random_id()),
            meeting: MeetingId::from_uuid(parlor.clock.new_id(now_ms)),
            session: SessionId::from_uuid(parlor.clock.new_id(now_ms)),
            parlor,
            now_ms,
        }
    }

    fn id(&self) -> Uuid {
        self.parlor.clock.new_id(self.now_ms)
    }

    fn as_meeting(&self, persist_chat: bool) -> Meeting {
        Meeting {
            id: self.meeting,
            title: "Weekly".to_owned(),
            active: true,
            persist_chat,
            keep_alive_ms: KEEP_ALIVE_MS,
            has_rooms: false,
            parent: None,
            version: 1,
        }
    }

    fn session(&self) -> SessionRecord {
        SessionRecord {
            id: self.session,
            title: "Weekly".to_owned(),
            started_ms: self.now_ms,
            ended_ms: None,
            live: 1,
            peak: 2,
            total: 3,
            consumed_ms: 4000,
        }
    }

    fn peer(&self, name: Option<&str>) -> PeerRecord {
        PeerRecord {
            session: self.session,
            peer: PeerId::from_uuid(self.parlor.clock.random_id()),
            participant: ParticipantId::from_uuid(self.id()),
            custom_id: "user-1".to_owned(),
            name: name.map(str::to_owned),
            picture: name.map(|name| format!("https://example.com/{name}.png")),
            preset: PresetId::from_uuid(self.id()),
            preset_name: "group_call_host".to_owned(),
            view: ViewType::AudioRoom,
            created_ms: self.now_ms - 5,
            joined_ms: self.now_ms,
            entered_ms: self.now_ms + 5,
            left_ms: None,
            consumed_ms: 17,
        }
    }

    fn message(&self, payload: &str) -> ChatMessage {
        ChatMessage {
            id: self.id(),
            session: self.session,
            peer: PeerId::from_uuid(self.id()),
            participant: ParticipantId::from_uuid(self.id()),
            name: "Ada".to_owned(),
            kind: PayloadType::Text,
            payload: payload.to_owned(),
            pinned: false,
            edited: false,
            targets: Vec::new(),
            at_ms: self.now_ms,
        }
    }

    fn entry(&self, kind: EntryKind, key: &str, value: Option<&[u8]>) -> Record {
        Record::Entry {
            session: self.session,
            kind,
            key: key.to_owned(),
            value: value.map(bytes::Bytes::copy_from_slice),
        }
    }

    async fn try_keep(&self, records: &[Record]) -> Result<(), Error> {
        let unit = unit(self.app, self.meeting, self.now_ms, records);
        self.parlor.db.commit(unit).await.map(drop)
    }

    async fn keep(&self, records: &[Record]) {
        self.try_keep(records).await.unwrap();
    }

    async fn past(&self, persist_chat: bool, held: usize) -> parlor_live::Past {
        let meeting = self.as_meeting(persist_chat);
        past(&self.parlor.live, self.app, &meeting, held)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn what_is_kept_once_or_twice_is_found_again() {
    on_both(async |scene: Scene| {
        let gone = scene.peer(Some("Bob"));
        let gone = PeerRecord {
            left_ms: Some(scene.now_ms + 9),
            ..gone
        };
        let mut private = scene.message("psst");
        private.targets = vec![private.participant, ParticipantId::from_uuid(scene.id())];
        let mut file = scene.message("{}");
        (file.kind, file.pinned, file.edited) = (PayloadType::File, true, true);
        let (ada, nameless) = (scene.peer(Some("Ada")), scene.peer(None));
        let mut records = vec![
            Record::Session(scene.session()),
            Record::Peer(ada.clone()),
            Record::Peer(nameless.clone()),
            Record::Peer(gone.clone()),
            Record::Chat(private.clone()),
            Record::Chat(file.clone()),
        ];
        for kind in EntryKind::ALL {
            records.push(scene.entry(kind, "a\u{1f}b", Some(&[0, 1, 255])));
        }
        for _ in 0..2 {
            scene.keep(&records).await;
            let past = scene.past(false, 10).await;
            assert_eq!(past.session, Some(scene.session()));
            let mut peers = past.peers;
            let mut wanted = vec![ada.clone(), nameless.clone(), gone.clone()];
            peers.sort_by_key(|peer| peer.peer);
            wanted.sort_by_key(|peer| peer.peer);
            assert_eq!(peers, wanted);
            assert_eq!(past.chat, [private.clone(), file.clone()]);
            let mut kinds: Vec<EntryKind> = past.entries.iter().map(|(kind, ..)| *kind).collect();
            kinds.sort();
            assert_eq!(kinds, EntryKind::ALL);
            assert!(
                past.entries
                    .iter()
                    .all(|(_, key, value)| { key == "a\u{1f}b" && *value == [0, 1, 255] })
            );
            assert_eq!(past.last_alive_ms, scene.now_ms);
        }
        assert_eq!(tally(&scene, scene.app.uuid()).await, 1);
        assert_eq!(tally(&scene, scene.meeting.uuid()).await, 1);
    })
    .await;
}

/// How many sessions the tally of an app or a meeting counts.
async fn tally(scene: &Scene, of: Uuid) -> i64 {
    static SUM: Statement = Statement::new(
        "tests.tally",
        "SELECT CAST(COALESCE(SUM(added - removed), 0) AS BIGINT) FROM tallies WHERE app_id = $1 AND scope = $2",
    );
    let key = values![scene.app.uuid(), sessions_scope(of)];
    let rows = scene.parlor.db.read::<Row>(&SUM, key).await.unwrap();
    rows[0].get(0).unwrap()
}

#[tokio::test]
async fn of_records_with_one_key_the_last_is_kept() {
    on_both(async |scene: Scene| {
        let (mut first, mut peer) = (scene.message("one"), scene.peer(Some("Ada")));
        let removed = scene.message("removed");
        let mut records = vec![
            Record::Session(scene.session()),
            Record::Peer(peer.clone()),
            Record::Chat(first.clone()),
            Record::Chat(removed.clone()),
            scene.entry(EntryKind::Store, "k", Some(b"1")),
            scene.entry(EntryKind::Poll, "p", Some(b"1")),
        ];
        (first.payload, first.edited) = ("two".to_owned(), true);
        peer.entered_ms += 100;
        let session = SessionRecord {
            live: 7,
            ..scene.session()
        };
        records.extend([
            Record::Chat(first.clone()),
            Record::ChatDeleted(removed.id),
            Record::Peer(peer.clone()),
            Record::Session(session.clone()),
            scene.entry(EntryKind::Store, "k", Some(b"2")),
            scene.entry(EntryKind::Poll, "p", None),
        ]);
        scene.keep(&records).await;
        let past = scene.past(false, 10).await;
        assert_eq!(past.session, Some(session));
        assert_eq!(past.peers, [peer]);
        assert_eq!(past.chat, [first.clone()]);
        assert_eq!(
            past.entries,
            [(EntryKind::Store, "k".to_owned(), b"2".to_vec())]
        );
        // The same in units of their own.
        scene
            .keep(&[
                Record::ChatDeleted(first.id),
                scene.entry(EntryKind::Store, "k", None),
            ])
            .await;
        let past = scene.past(false, 10).await;
        assert!(past.chat.is_empty() && past.entries.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ended_leaves_only_what_persists() {
    on_both(async |scene: Scene| {
        let message = scene.message("hello");
        scene
            .keep(&[
                Record::Session(scene.session()),
                Record::Peer(scene.peer(None)),
                Record::Chat(message.clone()),
                scene.entry(EntryKind::Poll, "p", Some(b"1")),
            ])
            .await;
        let open = open_sessions(&scene.parlor.live).await.unwrap();
        assert_eq!(open, [(scene.app, scene.meeting)]);
        let ended = SessionRecord {
            ended_ms: Some(scene.now_ms + 1000),
            live: 0,
            ..scene.session()
        };
        // The next session may begin in the unit in which the last one ends.
        let next = SessionRecord {
            id: SessionId::from_uuid(scene.id()),
            ..scene.session()
        };
        scene
            .keep(&[
                scene.entry(EntryKind::Poll, "late", Some(b"1")),
                Record::Session(ended),
                Record::Session(next.clone()),
            ])
            .await;
        let past = scene.past(true, 10).await;
        assert_eq!(past.session_id(), Some(next.id));
        assert!(past.peers.is_empty() && past.entries.is_empty());
        assert_eq!(past.chat, std::slice::from_ref(&message));
        assert!(scene.past(false, 10).await.chat.is_empty());
        let over = SessionRecord {
            ended_ms: Some(scene.now_ms + 2000),
            ..next
        };
        scene.keep(&[Record::Session(over)]).await;
        assert!(open_sessions(&scene.parlor.live).await.unwrap().is_empty());
        let past = scene.past(true, 10).await;
        assert_eq!((past.session, past.chat), (None, vec![message]));
        let left = entries(&scene).await;
        assert_eq!(left, 0);
    })
    .await;
}

async fn entries(scene: &Scene) -> usize {
    static ALL: Statement = Statement::new(
        "tests.entries",
        "SELECT key FROM session_entries WHERE app_id = $1",
    );
    let key = values![scene.app.uuid()];
    let rows = scene.parlor.db.read::<Row>(&ALL, key).await.unwrap();
    rows.len()
}

#[tokio::test]
async fn a_meeting_has_one_live_session_at_most() {
    on_both(async |scene: Scene| {
        scene.keep(&[Record::Session(scene.session())]).await;
        let second = SessionRecord {
            id: SessionId::from_uuid(scene.id()),
            ..scene.session()
        };
        let refused = scene.try_keep(&[Record::Session(second)]).await;
        let constraint = "sessions_live".to_owned();
        assert_eq!(refused, Err(Error::Conflict { constraint }));
        assert_eq!(tally(&scene, scene.meeting.uuid()).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_newest_messages_are_found_oldest_first() {
    on_both(async |scene: Scene| {
        let messages: Vec<ChatMessage> = (0..5)
            .map(|number| scene.message(&format!("{number}")))
            .collect();
        let mut records = vec![Record::Session(scene.session())];
        records.extend(messages.iter().cloned().map(Record::Chat));
        scene.keep(&records).await;
        for persists in [true, false] {
            assert_eq!(scene.past(persists, 3).await.chat, messages[2..]);
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_of_a_chat_is_read_at_once_than_is_held() {
    const LARGE: usize = 64 * 1024;
    on_both(async |scene: Scene| {
        let mut records = vec![Record::Session(scene.session())];
        let large = "x".repeat(LARGE);
        let messages: Vec<ChatMessage> = (0..300).map(|_| scene.message(&large)).collect();
        records.extend(messages.iter().cloned().map(Record::Chat));
        scene.keep(&records).await;
        let held = scene.parlor.limits.room.chat_held_bytes / LARGE;
        assert!(held < messages.len());
        for persists in [true, false] {
            let past = scene.past(persists, 10_000).await;
            assert_eq!(past.chat, messages[messages.len() - held..]);
            let stored = messages.iter().map(ChatMessage::stored_bytes).sum::<u64>();
            assert_eq!((past.chat_bytes, past.chat_full), (stored, None));
        }
        let chunks: Vec<_> = chat_csv(Arc::clone(&scene.parlor.live), scene.app, scene.session)
            .try_collect()
            .await
            .unwrap();
        let largest = chunks.iter().map(bytes::Bytes::len).max();
        assert!(largest < Some((1 << 20) + LARGE), "{largest:?}");
        let csv = String::from_utf8(chunks.concat()).unwrap();
        assert_eq!(csv.lines().count(), 1 + messages.len());
    })
    .await;
}

#[tokio::test]
async fn a_room_learns_when_the_process_before_was_last_alive() {
    on_both(async |scene: Scene| {
        let Scene { parlor, now_ms, .. } = &scene;
        let old = parlor.clock.new_id(now_ms - 10_000);
        let unit = Unit::default().then(&BEAT, values![old, now_ms - 500]);
        parlor.db.commit(unit).await.unwrap();
        parlor.clock.advance_ms(60_000);
        beat(&parlor.live).await.unwrap();
        // Written by the old process, before this one started.
        assert_eq!(
            last_alive(&parlor.live, now_ms - 9000).await.unwrap(),
            now_ms - 500
        );
        // It wrote after it had last said that it was alive.
        assert_eq!(
            last_alive(&parlor.live, now_ms - 400).await.unwrap(),
            now_ms - 400
        );
        // Written by this process.
        let wrote_ms = crate::clock::id_ms(parlor.process) + 1;
        let alive_ms = last_alive(&parlor.live, wrote_ms).await.unwrap();
        assert!(alive_ms >= now_ms + 60_000, "{}", alive_ms - now_ms);
        // After a month nobody asks for the old one.
        parlor.clock.advance_ms(SERVERS_KEPT_MS);
        beat(&parlor.live).await.unwrap();
        assert_eq!(
            last_alive(&parlor.live, now_ms - 9000).await.unwrap(),
            now_ms - 9000
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_whose_clock_is_wrong_at_the_start_forgets_no_sign_of_life() {
    on_both(async |scene: Scene| {
        let Scene { parlor, now_ms, .. } = &scene;
        let old = parlor.clock.new_id(now_ms - 10_000);
        let unit = Unit::default().then(&BEAT, values![old, now_ms - 500]);
        parlor.db.commit(unit).await.unwrap();
        parlor.clock.step_ms(2 * SERVERS_KEPT_MS);
        beat(&parlor.live).await.unwrap();
        assert_eq!(
            last_alive(&parlor.live, now_ms - 9000).await.unwrap(),
            now_ms - 500
        );
    })
    .await;
}

#[tokio::test]
async fn a_room_begins_after_the_last_session_of_its_meeting() {
    on_both(async |scene: Scene| {
        assert_eq!(scene.past(false, 10).await.earlier_ms, 0);
        let ended = SessionRecord {
            ended_ms: Some(scene.now_ms + 7),
            live: 0,
            ..scene.session()
        };
        scene.keep(&[Record::Session(ended)]).await;
        let past = scene.past(false, 10).await;
        assert_eq!((past.session, past.earlier_ms), (None, scene.now_ms + 7));
    })
    .await;
}

#[tokio::test]
async fn a_dump_holds_what_everybody_could_read() {
    on_both(async |scene: Scene| {
        let mut records = vec![Record::Session(scene.session())];
        assert!(
            !has_chat(&scene.parlor.live, scene.app, scene.session)
                .await
                .unwrap()
        );
        let mut private = scene.message("psst");
        private.targets = vec![private.participant];
        records.push(Record::Chat(private));
        scene.keep(&records).await;
        let session = (scene.app, scene.session);
        assert!(!has_chat(&scene.parlor.live, session.0, session.1).await.unwrap());
        // More than is read at once.
        let mut messages: Vec<ChatMessage> = (0..CHUNK_AND_MORE)
            .map(|number| scene.message(&format!("{number}")))
            .collect();
        messages[0].payload = "a \"quoted\",\nline".to_owned();
        (messages[1].kind, messages[1].pinned) = (PayloadType::Custom, true);
        let records: Vec<Record> = messages.iter().cloned().map(Record::Chat).collect();
        scene.keep(&records).await;
        assert!(has_chat(&scene.parlor.live, session.0, session.1).await.unwrap());
        let chunks: Vec<_> = chat_csv(Arc::clone(&scene.parlor.live), session.0, session.1)
            .try_collect()
            .await
            .unwrap();
        let csv = String::from_utf8(chunks.concat()).unwrap();
        let mut rows = csv.split("\r\n");
        assert_eq!(
            rows.next(),
            Some(
                "id,participantId,sessionId,meetingId,displayName,pinned,isEdited,payloadType,payload,createdAt"
            )
        );
        let at = crate::clock::rfc3339(scene.now_ms);
        let row = |message: &ChatMessage, rest: &str| {
            let Scene {
                session, meeting, ..
            } = &scene;
            format!(
                "{},{},{session},{meeting},\"Ada\",{rest},{at}",
                message.id, message.participant
            )
        };
        let first = row(
            &messages[0],
            "false,false,TEXT_MESSAGE,\"a \"\"quoted\"\",\nline\"",
        );
        assert_eq!(rows.next(), Some(first.as_str()));
        let second = row(&messages[1], "true,false,CUSTOM_MESSAGE,\"1\"");
        assert_eq!(rows.next(), Some(second.as_str()));
        // The last line ends too.
        assert_eq!(rows.count(), CHUNK_AND_MORE - 2 + 1);
    })
    .await;
}

const CHUNK_AND_MORE: usize = 1203;

#[tokio::test]
async fn a_room_learns_what_its_meeting_is_set_to() {
    on_both(async |scene: Scene| {
        static INSERT: Statement = Statement::new("tests.meeting", "INSERT INTO meetings (app_id, id, title, status, version, created_at, updated_at, settings)
                 VALUES ($1, $2, $3, $4, 1, 0, 0, $5)");
        static CONNECT: Statement = Statement::new("tests.connect", "INSERT INTO connected_meetings (app_id, parent_id, meeting_id, created_at) VALUES ($1, $2, $3, 0)");
        let Scene { parlor, app, .. } = &scene;
        assert_eq!(meeting(&parlor.live, *app, scene.meeting).await.unwrap(), None);
        let parent = MeetingId::from_uuid(scene.id());
        let settings = r#"{"persist_chat": true, "session_keep_alive_time_in_secs": 90}"#;
        let unit = Unit::default()
            .then(
                &INSERT,
                values![app.uuid(), scene.meeting.uuid(), "Weekly", "ACTIVE", settings],
            )
            .then(
                &INSERT,
                values![app.uuid(), parent.uuid(), None::<String>, "INACTIVE", "{}"],
            )
            .then(
                &CONNECT,
                values![app.uuid(), parent.uuid(), scene.meeting.uuid()],
            );
        parlor.db.commit(unit).await.unwrap();
        let wanted = Meeting {
            keep_alive_ms: 90_000,
            has_rooms: false,
            // Nobody joins a room of a meeting that is inactive.
            active: false,
            parent: Some(parent),
            ..scene.as_meeting(true)
        };
        assert_eq!(
            meeting(&parlor.live, *app, scene.meeting).await.unwrap(),
            Some(wanted)
        );
        let of_parent = Meeting {
            id: parent,
            title: String::new(),
            active: false,
            has_rooms: true,
            ..scene.as_meeting(false)
        };
        assert_eq!(meeting(&parlor.live, *app, parent).await.unwrap(), Some(of_parent));
    })
    .await;
}
