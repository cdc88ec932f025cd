//! Tests of the engine with another WebRTC stack as the client, in virtual time: no sockets, no
//! waiting, and a network with configurable loss and delay.

mod bandwidth;
mod commands;
mod feed;
mod invariants;
mod layers;
mod media;
mod retransmission;
mod shares;
mod simulation;
mod transports;
mod untrusted_input;
