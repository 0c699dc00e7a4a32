//! What an operator has a station do beyond charging, and what the station tells of it: reports, firmware and log jobs,
//! reservations, charging profiles, events.

mod read;
