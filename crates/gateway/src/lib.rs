//! Holds the sockets of stations and hands their calls to a bus.
