//! A simulated charging station.
