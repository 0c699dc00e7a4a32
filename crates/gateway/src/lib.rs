//! Holds the sockets of stations and hands their calls to a bus.
mod authenticate;
mod classes;
mod config;
mod desk;
mod handshake;
mod limits;
mod liveness;
mod mailbox;
mod patience;
mod presence;
mod socket;
mod tap;
