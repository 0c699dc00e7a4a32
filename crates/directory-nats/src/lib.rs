//! The directory in a NATS key-value bucket: [`NatsKv`].
//!
//! It keeps which gateway has which station, gateways' leases, accounts, registrations, and what all processes agree on.
//! It keeps neither commands nor calls that were answered unprocessed: servers confirm a write long before it is on a
//! synced disk (two minutes by default), and those must not be lost ([`Directory::keeps`](switchboard_directory::Directory)
//! says so). For the same reason a power cut may take an account or a registration with it that was just written; what
//! is connected where needs no disk, as generations rise with the clock.
//!
//! Everything is requests to the server's own interface over core NATS, so that nothing newer than server 2.9 is used:
//! keys have no time to live there, and so a gateway's lease is one key, which its stations refer to.

mod bucket;
mod keys;
mod kv;
mod records;

pub use kv::NatsKv;
