//! The rows of the behaviour table on real sockets, over the in-process bus and the embedded directory.

mod commands;
mod desk;
mod frames;
mod handshake;
mod life_cycle;
mod moody;
mod support;
