//! A small central system written with the SDK and kept in SQLite.
