use std::sync::Arc;

use futures_util::TryStreamExt;
use parlor_live::{
    ChatMessage, EntryKind, Meeting, PayloadType, PeerRecord, Record, SessionRecord,
};
use parlor_protocol::ids::{AppId, MeetingId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_store::{DatabaseLocation, Error, Row, Statement, Unit, values};
use parlor_testkit::Postgres;
use uuid::Uuid;

use super::*;
use crate::limits::Limits;
use crate::state::ServerState;

const KEEP_ALIVE_MS: i64 = 60_000;

/// Runs a test against SQLite and PostgreSQL.
async fn on_both(test: impl AsyncFn(Fixture)) {
    let folder = tempfile::tempdir().unwrap();
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    for location in [
        DatabaseLocation::Sqlite(folder.path().join("parlor.db")),
        DatabaseLocation::Postgres(url),
    ] {
        let state = Arc::new(
            ServerState::open(&location, Limits::default())
                .await
                .unwrap(),
        );
        test(Fixture::new(Arc::clone(&state))).await;
        state.db.close().await;
    }
}

/// A meeting to write records for.
struct Fixture {
    state: Arc<ServerState>,
    app: AppId,
    meeting: MeetingId,
    session: SessionId,
    now_ms: i64,
}

impl Fixture {
    fn new(state: Arc<ServerState>) -> Self {
        let now_ms = state.clock.now_ms();
        Self {
            app: AppId::from_uuid(state.clock.random_id()),
            meeting: MeetingId::from_uuid(state.clock.new_id(now_ms)),
            session: SessionId::from_uuid(state.clock.new_id(now_ms)),
            state,
            now_ms,
        }
    }

    fn id(&self) -> Uuid {
        self.state.clock.new_id(self.now_ms)
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
            peer: PeerId::from_uuid(self.state.clock.random_id()),
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
        self.state.db.commit(unit).await.map(drop)
    }

    async fn keep(&self, records: &[Record]) {
        self.try_keep(records).await.unwrap();
    }

    async fn load(&self, persist_chat: bool, held: usize) -> parlor_live::PersistedState {
        let meeting = self.as_meeting(persist_chat);
        load_state(&self.state.live, self.app, &meeting, held)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn records_written_once_or_twice_are_loaded_again() {
    on_both(async |fixture: Fixture| {
        let left = fixture.peer(Some("Bob"));
        let left = PeerRecord {
            left_ms: Some(fixture.now_ms + 9),
            ..left
        };
        let mut private = fixture.message("psst");
        private.targets = vec![private.participant, ParticipantId::from_uuid(fixture.id())];
        let mut file = fixture.message("{}");
        (file.kind, file.pinned, file.edited) = (PayloadType::File, true, true);
        let (ada, nameless) = (fixture.peer(Some("Ada")), fixture.peer(None));
        let mut records = vec![
            Record::Session(fixture.session()),
            Record::Peer(ada.clone()),
            Record::Peer(nameless.clone()),
            Record::Peer(left.clone()),
            Record::Chat(private.clone()),
            Record::Chat(file.clone()),
        ];
        for kind in EntryKind::ALL {
            records.push(fixture.entry(kind, "a\u{1f}b", Some(&[0, 1, 255])));
        }
        for _ in 0..2 {
            fixture.keep(&records).await;
            let loaded = fixture.load(false, 10).await;
            assert_eq!(loaded.session, Some(fixture.session()));
            let mut peers = loaded.peers;
            let mut wanted = vec![ada.clone(), nameless.clone(), left.clone()];
            peers.sort_by_key(|peer| peer.peer);
            wanted.sort_by_key(|peer| peer.peer);
            assert_eq!(peers, wanted);
            assert_eq!(loaded.chat, [private.clone(), file.clone()]);
            let mut kinds: Vec<EntryKind> = loaded.entries.iter().map(|(kind, ..)| *kind).collect();
            kinds.sort();
            assert_eq!(kinds, EntryKind::ALL);
            assert!(
                loaded
                    .entries
                    .iter()
                    .all(|(_, key, value)| { key == "a\u{1f}b" && *value == [0, 1, 255] })
            );
            assert_eq!(loaded.last_alive_ms, fixture.now_ms);
        }
        assert_eq!(tally(&fixture, fixture.app.uuid()).await, 1);
        assert_eq!(tally(&fixture, fixture.meeting.uuid()).await, 1);
    })
    .await;
}

/// The number of sessions in the tally of an app or a meeting.
async fn tally(fixture: &Fixture, of: Uuid) -> i64 {
    static SUM: Statement = Statement::new(
        "tests.tally",
        "SELECT CAST(COALESCE(SUM(added - removed), 0) AS BIGINT) FROM tallies WHERE app_id = $1 AND scope = $2",
    );
    let key = values![fixture.app.uuid(), sessions_scope(of)];
    let rows = fixture.state.db.read::<Row>(&SUM, key).await.unwrap();
    rows[0].get(0).unwrap()
}

#[tokio::test]
async fn the_last_of_several_records_with_one_key_is_written() {
    on_both(async |fixture: Fixture| {
        let (mut first, mut peer) = (fixture.message("one"), fixture.peer(Some("Ada")));
        let removed = fixture.message("removed");
        let mut records = vec![
            Record::Session(fixture.session()),
            Record::Peer(peer.clone()),
            Record::Chat(first.clone()),
            Record::Chat(removed.clone()),
            fixture.entry(EntryKind::Store, "k", Some(b"1")),
            fixture.entry(EntryKind::Poll, "p", Some(b"1")),
        ];
        (first.payload, first.edited) = ("two".to_owned(), true);
        peer.entered_ms += 100;
        let session = SessionRecord {
            live: 7,
            ..fixture.session()
        };
        records.extend([
            Record::Chat(first.clone()),
            Record::ChatDeleted(removed.id),
            Record::Peer(peer.clone()),
            Record::Session(session.clone()),
            fixture.entry(EntryKind::Store, "k", Some(b"2")),
            fixture.entry(EntryKind::Poll, "p", None),
        ]);
        fixture.keep(&records).await;
        let loaded = fixture.load(false, 10).await;
        assert_eq!(loaded.session, Some(session));
        assert_eq!(loaded.peers, [peer]);
        assert_eq!(loaded.chat, [first.clone()]);
        assert_eq!(
            loaded.entries,
            [(EntryKind::Store, "k".to_owned(), b"2".to_vec())]
        );
        // The same in separate units.
        fixture
            .keep(&[
                Record::ChatDeleted(first.id),
                fixture.entry(EntryKind::Store, "k", None),
            ])
            .await;
        let loaded = fixture.load(false, 10).await;
        assert!(loaded.chat.is_empty() && loaded.entries.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ended_leaves_only_what_persists() {
    on_both(async |fixture: Fixture| {
        let message = fixture.message("hello");
        fixture
            .keep(&[
                Record::Session(fixture.session()),
                Record::Peer(fixture.peer(None)),
                Record::Chat(message.clone()),
                fixture.entry(EntryKind::Poll, "p", Some(b"1")),
            ])
            .await;
        let open = open_sessions(&fixture.state.live).await.unwrap();
        assert_eq!(open, [(fixture.app, fixture.meeting)]);
        let ended = SessionRecord {
            ended_ms: Some(fixture.now_ms + 1000),
            live: 0,
            ..fixture.session()
        };
        // The next session may begin in the unit that ends the previous one.
        let next = SessionRecord {
            id: SessionId::from_uuid(fixture.id()),
            ..fixture.session()
        };
        fixture
            .keep(&[
                fixture.entry(EntryKind::Poll, "late", Some(b"1")),
                Record::Session(ended),
                Record::Session(next.clone()),
            ])
            .await;
        let loaded = fixture.load(true, 10).await;
        assert_eq!(loaded.session_id(), Some(next.id));
        assert!(loaded.peers.is_empty() && loaded.entries.is_empty());
        assert_eq!(loaded.chat, std::slice::from_ref(&message));
        assert!(fixture.load(false, 10).await.chat.is_empty());
        let over = SessionRecord {
            ended_ms: Some(fixture.now_ms + 2000),
            ..next
        };
        fixture.keep(&[Record::Session(over)]).await;
        assert!(open_sessions(&fixture.state.live).await.unwrap().is_empty());
        let loaded = fixture.load(true, 10).await;
        assert_eq!((loaded.session, loaded.chat), (None, vec![message]));
        let left = entries(&fixture).await;
        assert_eq!(left, 0);
    })
    .await;
}

async fn entries(fixture: &Fixture) -> usize {
    static ALL: Statement = Statement::new(
        "tests.entries",
        "SELECT key FROM session_entries WHERE app_id = $1",
    );
    let key = values![fixture.app.uuid()];
    let rows = fixture.state.db.read::<Row>(&ALL, key).await.unwrap();
    rows.len()
}

#[tokio::test]
async fn a_meeting_has_one_live_session_at_most() {
    on_both(async |fixture: Fixture| {
        fixture.keep(&[Record::Session(fixture.session())]).await;
        let second = SessionRecord {
            id: SessionId::from_uuid(fixture.id()),
            ..fixture.session()
        };
        let refused = fixture.try_keep(&[Record::Session(second)]).await;
        let constraint = "sessions_live".to_owned();
        assert_eq!(refused, Err(Error::Conflict { constraint }));
        assert_eq!(tally(&fixture, fixture.meeting.uuid()).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_newest_messages_are_loaded_oldest_first() {
    on_both(async |fixture: Fixture| {
        let messages: Vec<ChatMessage> = (0..5)
            .map(|number| fixture.message(&format!("{number}")))
            .collect();
        let mut records = vec![Record::Session(fixture.session())];
        records.extend(messages.iter().cloned().map(Record::Chat));
        fixture.keep(&records).await;
        for persists in [true, false] {
            assert_eq!(fixture.load(persists, 3).await.chat, messages[2..]);
        }
    })
    .await;
}

#[tokio::test]
async fn at_most_the_held_part_of_a_chat_is_read_at_once() {
    const LARGE: usize = 64 * 1024;
    on_both(async |fixture: Fixture| {
        let mut records = vec![Record::Session(fixture.session())];
        let large = "x".repeat(LARGE);
        let messages: Vec<ChatMessage> = (0..300).map(|_| fixture.message(&large)).collect();
        records.extend(messages.iter().cloned().map(Record::Chat));
        fixture.keep(&records).await;
        let held = fixture.state.limits.room.chat_held_bytes / LARGE;
        assert!(held < messages.len());
        for persists in [true, false] {
            let loaded = fixture.load(persists, 10_000).await;
            assert_eq!(loaded.chat, messages[messages.len() - held..]);
            let stored = messages.iter().map(ChatMessage::stored_bytes).sum::<u64>();
            assert_eq!((loaded.chat_bytes, loaded.chat_full), (stored, None));
        }
        let chunks: Vec<_> = chat_csv(
            Arc::clone(&fixture.state.live),
            fixture.app,
            fixture.session,
        )
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
    on_both(async |fixture: Fixture| {
        let Fixture { state, now_ms, .. } = &fixture;
        let old = state.clock.new_id(now_ms - 10_000);
        let unit = Unit::default().then(&HEARTBEAT, values![old, now_ms - 500]);
        state.db.commit(unit).await.unwrap();
        state.clock.advance_ms(60_000);
        heartbeat(&state.live).await.unwrap();
        // Written by the old process, before this one started.
        assert_eq!(
            last_alive(&state.live, now_ms - 9000).await.unwrap(),
            now_ms - 500
        );
        // Written after its last heartbeat.
        assert_eq!(
            last_alive(&state.live, now_ms - 400).await.unwrap(),
            now_ms - 400
        );
        // Written by this process.
        let wrote_ms = crate::clock::id_ms(state.process) + 1;
        let alive_ms = last_alive(&state.live, wrote_ms).await.unwrap();
        assert!(alive_ms >= now_ms + 60_000, "{}", alive_ms - now_ms);
        // After a month the row of the old process is deleted.
        state.clock.advance_ms(SERVERS_KEPT_MS);
        heartbeat(&state.live).await.unwrap();
        assert_eq!(
            last_alive(&state.live, now_ms - 9000).await.unwrap(),
            now_ms - 9000
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_with_a_wrong_clock_at_start_deletes_no_heartbeat() {
    on_both(async |fixture: Fixture| {
        let Fixture { state, now_ms, .. } = &fixture;
        let old = state.clock.new_id(now_ms - 10_000);
        let unit = Unit::default().then(&HEARTBEAT, values![old, now_ms - 500]);
        state.db.commit(unit).await.unwrap();
        state.clock.step_ms(2 * SERVERS_KEPT_MS);
        heartbeat(&state.live).await.unwrap();
        assert_eq!(
            last_alive(&state.live, now_ms - 9000).await.unwrap(),
            now_ms - 500
        );
    })
    .await;
}

#[tokio::test]
async fn a_room_begins_after_the_last_session_of_its_meeting() {
    on_both(async |fixture: Fixture| {
        assert_eq!(fixture.load(false, 10).await.earlier_ms, 0);
        let ended = SessionRecord {
            ended_ms: Some(fixture.now_ms + 7),
            live: 0,
            ..fixture.session()
        };
        fixture.keep(&[Record::Session(ended)]).await;
        let loaded = fixture.load(false, 10).await;
        assert_eq!(
            (loaded.session, loaded.earlier_ms),
            (None, fixture.now_ms + 7)
        );
    })
    .await;
}

#[tokio::test]
async fn a_chat_dump_contains_only_public_messages() {
    on_both(async |fixture: Fixture| {
        let mut records = vec![Record::Session(fixture.session())];
        assert!(
            !has_chat(&fixture.state.live, fixture.app, fixture.session)
                .await
                .unwrap()
        );
        let mut private = fixture.message("psst");
        private.targets = vec![private.participant];
        records.push(Record::Chat(private));
        fixture.keep(&records).await;
        let session = (fixture.app, fixture.session);
        assert!(!has_chat(&fixture.state.live, session.0, session.1).await.unwrap());
        // Create more messages than are read in one chunk.
        let mut messages: Vec<ChatMessage> = (0..CHUNK_AND_MORE)
            .map(|number| fixture.message(&format!("{number}")))
            .collect();
        messages[0].payload = "a \"quoted\",\nline".to_owned();
        (messages[1].kind, messages[1].pinned) = (PayloadType::Custom, true);
        let records: Vec<Record> = messages.iter().cloned().map(Record::Chat).collect();
        fixture.keep(&records).await;
        assert!(has_chat(&fixture.state.live, session.0, session.1).await.unwrap());
        let chunks: Vec<_> = chat_csv(Arc::clone(&fixture.state.live), session.0, session.1)
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
        let at = crate::clock::rfc3339(fixture.now_ms);
        let row = |message: &ChatMessage, rest: &str| {
            let Fixture {
                session, meeting, ..
            } = &fixture;
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
        // The last line is terminated, too.
        assert_eq!(rows.count(), CHUNK_AND_MORE - 2 + 1);
    })
    .await;
}

const CHUNK_AND_MORE: usize = 1203;

#[tokio::test]
async fn a_room_loads_the_settings_of_its_meeting() {
    on_both(async |fixture: Fixture| {
        static INSERT: Statement = Statement::new("tests.meeting", "INSERT INTO meetings (app_id, id, title, status, version, created_at, updated_at, settings)
                 VALUES ($1, $2, $3, $4, 1, 0, 0, $5)");
        static CONNECT: Statement = Statement::new("tests.connect", "INSERT INTO connected_meetings (app_id, parent_id, meeting_id, created_at) VALUES ($1, $2, $3, 0)");
        let Fixture { state, app, .. } = &fixture;
        assert_eq!(meeting(&state.live, *app, fixture.meeting).await.unwrap(), None);
        let parent = MeetingId::from_uuid(fixture.id());
        let settings = r#"{"persist_chat": true, "session_keep_alive_time_in_secs": 90}"#;
        let unit = Unit::default()
            .then(
                &INSERT,
                values![app.uuid(), fixture.meeting.uuid(), "Weekly", "ACTIVE", settings],
            )
            .then(
                &INSERT,
                values![app.uuid(), parent.uuid(), None::<String>, "INACTIVE", "{}"],
            )
            .then(
                &CONNECT,
                values![app.uuid(), parent.uuid(), fixture.meeting.uuid()],
            );
        state.db.commit(unit).await.unwrap();
        let wanted = Meeting {
            keep_alive_ms: 90_000,
            has_rooms: false,
            // A room of an inactive parent is inactive.
            active: false,
            parent: Some(parent),
            ..fixture.as_meeting(true)
        };
        assert_eq!(
            meeting(&state.live, *app, fixture.meeting).await.unwrap(),
            Some(wanted)
        );
        let of_parent = Meeting {
            id: parent,
            title: String::new(),
            active: false,
            has_rooms: true,
            ..fixture.as_meeting(false)
        };
        assert_eq!(meeting(&state.live, *app, parent).await.unwrap(), Some(of_parent));
    })
    .await;
}
