//! The HTTP interface of a running Switchboard: stations, commands, live traffic.
