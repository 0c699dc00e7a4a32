//! Parts of a station that know nothing of each other and nothing of messages in flight.

pub(crate) mod configuration;
pub(crate) mod device_model;
pub(crate) mod local_list;
pub(crate) mod profile;
pub(crate) mod vehicle;
