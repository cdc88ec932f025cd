//! Rooms from outside: what goes in and what comes out, nothing else.
//!
//! | file | what it asks |
//! |---|---|
//! | `contract` | single rules of the protocol that would be costly to break |
//! | `outside` | what a room is told of its meeting: changed, gone, with breakout rooms or without |
//! | `bounds` | how much a room takes, and how much it sends at once |
//! | `reconnects` | what becomes of a peer whose line breaks |
//! | `permissions` | that nothing happens without the permission it needs |
//! | `simulation` | that many random clients and the room agree about everything, whatever happens |
//! | `acts` | what the clients of the simulation do |
//! | `world`, `people`, `truth`, `client` | a room with virtual time, its people, what should be true, and what a client believes |

mod acts;
mod bounds;
mod client;
mod contract;
mod outside;
mod people;
mod permissions;
mod reconnects;
mod simulation;
mod truth;
mod world;
