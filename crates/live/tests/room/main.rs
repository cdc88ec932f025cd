//! Rooms from outside: what goes in and what comes out, nothing else.
//!
//! | file | what it asks |
//! |---|---|
//! | `contract` | single rules of the protocol that would be costly to break |
//! | `permissions` | that nothing happens without the permission it needs |
//! | `simulation` | that many random clients and the room agree about everything, whatever happens |
//! | `world`, `people`, `truth`, `client` | a room with virtual time, its people, what should be true, and what a client believes |

#![expect(
    clippy::similar_names,
    clippy::needless_for_each,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a model reads best when it is written like the world it models"
)]

mod acts;
mod client;
mod contract;
mod people;
mod permissions;
mod simulation;
mod truth;
mod world;
