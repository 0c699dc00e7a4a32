//! Workers in other languages, the ones in `examples/foreign`, at real gateways over real brokers; and the documents that
//! they were written from.

mod documents;
mod processes;
mod sharing;
mod support;
