//! All tests in one program, as linking each of these files by itself takes longer than they run.

mod bare;
mod broker;
mod conformance;
mod conformance_broker;
mod half_broken;
