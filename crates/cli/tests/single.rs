//! What one process of the binary does, each test with a server of its own.
//!
//! One program, as linking each of these files by itself takes longer than most of them run.

mod chargers;
mod client;
mod compression;
mod mqtt;
mod operate;
mod operations;
mod outside;
mod process;
mod promises;
mod readme;
mod rows;
mod sdk;
mod simulate;
mod trace;
