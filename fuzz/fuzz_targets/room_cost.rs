//! A room with a work budget: no frame may exceed its cost limit, however often a field repeats.
//!
//! The input is a list of frames: an event, a repeated field, a repeat count, and the field's
//! content. A few bytes of input become a frame of up to 1 MiB.
#![no_main]

#[path = "room/fixture.rs"]
mod fixture;

use bytes::Bytes;
use parlor_live::{
    ConnectionId, Input, InputContext, Limits, Meeting, Monotonic, Output, PeerProfile,
    PersistedState, Rate, Room,
};
use parlor_protocol::preset::{Permissions, ViewType};
use parlor_protocol::signal::event;

use fixture::{START_MS, client, next_uuid, user};

/// Number of participants, each with one client.
const PARTICIPANTS: u8 = 40;
/// Maximum frame size, in bytes.
const FRAME: usize = 1 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    // Many large frames find no more than a few.
    for script in bytes.chunks(24).take(8) {
        world.frame(script);
    }
});

struct World {
    room: Room,
    now_ms: i64,
    next_id: u128,
}

impl World {
    fn new() -> Self {
        let none = Rate {
            count: 0,
            per_ms: 1,
        };
        let limits = Limits {
            // No rate limits, so that every request is executed.
            frames: none,
            changes: none,
            reads: none,
            chat: none,
            chat_reads: none,
            kicks: none,
            moves: none,
            stores: none,
            store_reads: none,
            permission_updates: none,
            // Small enough that a missing bound is noticed.
            chat_held: 100,
            chat_held_bytes: 1 << 20,
            polls: 20,
            store_keys: 1_000,
            reply_bytes: 1 << 20,
            ..Limits::default()
        };
        let mut next_id = 1 << 64;
        let meeting = Meeting {
            has_rooms: true,
            ..fixture::meeting()
        };
        let room = fixture::open(
            meeting,
            limits,
            PersistedState::default(),
            START_MS,
            &mut next_id,
        );
        let mut world = Self {
            room,
            now_ms: START_MS,
            next_id,
        };
        for person in 0..PARTICIPANTS {
            let connection = ConnectionId(person.into());
            let profile = Box::new(profile(person));
            world.handle(Input::Opened {
                connection,
                profile,
            });
            world.request(connection, event::JOIN_ROOM, Bytes::new());
        }
        world
    }

    fn frame(&mut self, script: &[u8]) {
        let byte = |at: usize| script.get(at).copied().unwrap_or_default();
        let (number, _) = event::ALL[usize::from(byte(0)) % event::ALL.len()];
        let connection = ConnectionId((byte(1) % PARTICIPANTS).into());
        let times = usize::from(byte(2)) * usize::from(byte(3)) * usize::from(byte(4) % 17);
        // The prefix of the payload, followed by repeated fields with existing ids or the script's
        // bytes.
        let mut payload = script.get(6..).unwrap_or_default().to_vec();
        let tag = byte(5) << 3 | 2;
        let content = script.get(6..).unwrap_or_default();
        for n in 0..times {
            if payload.len() > FRAME {
                break;
            }
            let person = u8::try_from(n % usize::from(PARTICIPANTS)).unwrap_or_default();
            let id = match byte(5) >> 5 {
                0 => user(person).to_string().into_bytes(),
                1 => client(person, 0).to_string().into_bytes(),
                2 => n.to_string().into_bytes(),
                3 => [&[0x0A, 36], user(person).to_string().as_bytes()].concat(),
                4 => Vec::new(),
                _ => content.to_vec(),
            };
            payload.extend([tag, u8::try_from(id.len()).unwrap_or_default()]);
            payload.extend(id);
        }
        self.request(connection, number, payload.into());
        // Run the remaining slices of the work.
        for _ in 0..64 {
            let soon = Monotonic::from_ms(self.now_ms + 1_000);
            let Some(wake) = self.room.next_deadline().filter(|at| *at <= soon) else {
                break;
            };
            self.now_ms = self.now_ms.max(wake.as_ms());
            self.handle(Input::Tick);
        }
    }

    fn request(&mut self, connection: ConnectionId, number: u32, payload: Bytes) {
        let bytes = fixture::frame(number, payload);
        self.handle(Input::Frame { connection, bytes });
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::<Output>::new();
        let next_id = &mut self.next_id;
        let mut context = InputContext {
            now_ms: self.now_ms,
            monotonic: Monotonic::from_ms(self.now_ms),
            ids: &mut |_| next_uuid(next_id),
        };
        let what = format!("{input:.60?}");
        self.room.handle(&mut context, input, &mut out);
        let (cost, limit) = (self.room.cost(), self.room.max_cost());
        assert!(
            cost <= limit,
            "{what} costs {cost} of at most {limit} steps"
        );
    }
}

/// A participant with all relevant permissions; some watch a livestream.
fn profile(person: u8) -> PeerProfile {
    let mut permissions = Permissions {
        accept_waiting_requests: true,
        can_accept_production_requests: person.is_multiple_of(2),
        can_change_participant_permissions: true,
        kick_participant: true,
        pin_participant: true,
        ..Permissions::default()
    };
    permissions.polls.can_create = true;
    permissions.connected_meetings.can_alter_connected_meetings = true;
    let views = [ViewType::GroupCall, ViewType::Webinar, ViewType::Livestream];
    let view = views[usize::from(person % 3)];
    fixture::profile(person, 0, view, permissions)
}
