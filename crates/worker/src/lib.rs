//! Takes calls from a bus, keeps them in order per station and feeds a Router.
