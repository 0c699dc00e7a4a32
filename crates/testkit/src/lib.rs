//! For tests only: scripted peers, launchers and fault proxies.
