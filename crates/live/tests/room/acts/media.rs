//! What a client asks of the media plane.

use parlor_live::Input;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::PeerJoinCompleteResponse;
use parlor_protocol::signal::media::{CreateTransportRequest, SessionDescription};

use super::when;
use crate::simulation::Simulation;
use crate::truth::Place;

impl Simulation {
    pub(super) fn media(&mut self, slot: usize, c: u8) {
        let inside = self.truth.inside(slot);
        match c % 4 {
            0 => self.fetch(slot, event::MEDIA_JOIN),
            1 => {
                let event = event::MEDIA_JOIN_COMPLETE;
                let Some((reply, done)) = self.ask(slot, event, &(), when(inside, event)) else {
                    return;
                };
                let state: PeerJoinCompleteResponse = reply.expect("a reply").read();
                assert!(state.room_state.is_some());
                let seen = |peer: &String| {
                    self.truth.slots().any(|other| {
                        self.truth.sees(slot, other) && self.truth.peer_id(other) == *peer
                    })
                };
                assert!(state.participants.iter().all(|other| seen(&other.peer_id)));
                self.settle(&done);
            }
            2 => self.fetch(slot, event::MEDIA_LEAVE),
            _ => self.transport(slot),
        }
    }

    fn transport(&mut self, slot: usize) {
        let offer = SessionDescription {
            sdp: "v=0".to_owned(),
            ..SessionDescription::default()
        };
        let request = CreateTransportRequest {
            description: Some(offer),
            ..CreateTransportRequest::default()
        };
        if self.truth.peers[slot].place == Place::Rejected || !self.truth.may_join(slot) {
            return;
        }
        let Some((_, mut done)) = self.ask(slot, event::CREATE_TRANSPORT, &request, Ok(None))
        else {
            return;
        };
        let order = done.media.pop().expect("an order to the media plane");
        self.settle(&done);
        let parlor_live::MediaOrder::Open {
            connection,
            request,
            publishes,
            ..
        } = order
        else {
            panic!("{order:?}")
        };
        assert!(publishes);
        let id = request.id.clone();
        let outcome = Ok(("t".to_owned(), "v=0".to_owned()));
        let done = self.world.take(Input::Transport {
            connection,
            request,
            outcome,
        });
        let replies = done.of(connection, event::CREATE_TRANSPORT);
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].id, id);
        self.settle(&done);
    }
}
