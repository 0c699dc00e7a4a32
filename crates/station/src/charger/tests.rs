//! The charger with a fake clock and a scripted central system.
