//! Typed handlers: a call in, an answer out.
