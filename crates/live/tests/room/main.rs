//! Rooms from outside: what goes in and what comes out, nothing else.
//!
//! | file | what it asks |
//! |---|---|
//! | `contract` | single rules of the protocol that would be costly to break |
//! | `permissions` | that nothing happens without the permission it needs |
//! | `simulation` | that many random clients and the room agree about everything, whatever happens |
//! | `world`, `people`, `truth`, `client` | a room with virtual time, its people, what should be true, and what a client believes |

mod acts;
mod client;
mod contract;
mod people;
mod permissions;
mod simulation;
mod truth;
mod world;
