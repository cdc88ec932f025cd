//! The engine with a second WebRTC stack at the other end, in a time of its own: no sockets, no
//! waiting, and a network that loses and delays as it is told.

mod bandwidth;
mod check;
mod feed;
mod layers;
mod media;
mod orders;
mod repair;
mod shares;
mod strangers;
mod transports;
mod world;
