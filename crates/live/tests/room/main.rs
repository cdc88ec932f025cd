//! Black-box tests of a room: inputs in, outputs out.
//!
//! | file | what it tests |
//! |---|---|
//! | `contract` | single rules of the protocol |
//! | `meeting_updates` | updates of the meeting from outside: changed, deleted, with or without breakout rooms |
//! | `costs` | rates, sizes and numbers of copies that one client can cause |
//! | `slices`, `chat_reads` | long work and chat reads, which are done in slices |
//! | `largest_frames` | the cost and time of the largest frame of each event in a meeting of 200 participants |
//! | `limits` | limits per participant, and batching of what is sent to many |
//! | `rejections` | what rejected requests cost their sender and the room |
//! | `reconnects` | lost connections |
//! | `clock` | clock steps during and between runs of the server |
//! | `permissions` | each permission is enforced |
//! | `simulation` | random clients and the room agree on every state |
//! | `actions` | the actions of the simulated clients |
//! | `tracks`, `transports`, `enforcement` | publishing and receiving, what ends it, and its permissions |
//! | `speakers` | notifications about active speakers |
//! | `world`, `media_plane`, `participants`, `model`, `client` | a room in virtual time, a fake media plane, participants, the reference model, and a model of the client |

mod actions;
mod chat_reads;
mod client;
mod clock;
mod contract;
mod costs;
mod enforcement;
mod largest_frames;
mod limits;
mod media_plane;
mod meeting_updates;
mod model;
mod participants;
mod permissions;
mod reconnects;
mod rejections;
mod simulation;
mod slices;
mod speakers;
mod tracks;
mod transports;
mod world;
