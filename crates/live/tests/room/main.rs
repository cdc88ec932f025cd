//! Rooms from outside: what goes in and what comes out, nothing else.
//!
//! | file | what it asks |
//! |---|---|
//! | `contract` | single rules of the protocol that would be costly to break |
//! | `outside` | what a room is told of its meeting: changed, gone, with breakout rooms or without |
//! | `costs` | what one client can make a room, the server and others bear |
//! | `slices`, `readings` | long work and reads of the chat, which are done in slices |
//! | `largest` | what the largest frame of each event costs in a meeting of 200 people, and how long it takes |
//! | `bounds` | how much a room takes, and how much it sends at once |
//! | `reconnects` | what becomes of a peer whose line breaks |
//! | `clock` | what becomes of a meeting when the clock is set |
//! | `permissions` | that nothing happens without the permission it needs |
//! | `simulation` | that many random clients and the room agree about everything, whatever happens |
//! | `acts` | what the clients of the simulation do |
//! | `tracks`, `transports`, `enforcement` | who publishes and receives what, what ends it, and who may no more |
//! | `speakers` | who is told who speaks |
//! | `world`, `plane`, `people`, `truth`, `client` | a room with virtual time, a media plane, its people, what should be true, and what a client believes |

mod acts;
mod bounds;
mod client;
mod clock;
mod contract;
mod costs;
mod enforcement;
mod largest;
mod outside;
mod people;
mod permissions;
mod plane;
mod readings;
mod reconnects;
mod refusals;
mod simulation;
mod slices;
mod speakers;
mod tracks;
mod transports;
mod truth;
mod world;
